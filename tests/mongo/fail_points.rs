//! What the server's own fail points say of a transaction ends in the right answer.

use mongodb::bson::{Bson, Document, doc};

use crate::mongod::ReplicaSet;
use crate::support::{Server, Target, assert_clean, fresh, with_commit_timeout};

/// A shutdown that is under way; the driver may try again.
const SHUTDOWN_IN_PROGRESS: i32 = 91;
const WRITE_CONFLICT: i32 = 112;
const NO_SUCH_TRANSACTION: i32 = 251;
const WRITE_CONCERN_FAILED: i32 = 64;

fn transient(command: &str, code: i32) -> Document {
    let labels = ["TransientTransactionError"];
    doc! { "failCommands": [command], "errorCode": code, "errorLabels": labels }
}

/// Without having been carried out.
fn unknown() -> Document {
    let labels = ["UnknownTransactionCommitResult"];
    doc! { "failCommands": ["commitTransaction"], "errorCode": SHUTDOWN_IN_PROGRESS, "errorLabels": labels }
}

/// Carried out, and not known to be on a majority.
fn not_acknowledged() -> Document {
    let error = doc! { "code": WRITE_CONCERN_FAILED, "errmsg": "made to fail" };
    let labels = ["UnknownTransactionCommitResult"];
    doc! { "failCommands": ["commitTransaction"], "writeConcernError": error, "errorLabels": labels }
}

fn closing(command: &str) -> Document {
    doc! { "failCommands": [command], "closeConnection": true }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_transaction_end_in_the_right_answer() {
    let set = ReplicaSet::start(1).await;
    let data = fresh(&set);
    let server = Server::start_by(with_commit_timeout("1s"), &data);
    let mut client = server.connect().await;
    let mut target = Target::make(&mut client).await;
    let faults = [
        transient("insert", WRITE_CONFLICT),
        transient("insert", NO_SUCH_TRANSACTION),
        transient("commitTransaction", NO_SUCH_TRANSACTION),
        transient("commitTransaction", WRITE_CONFLICT),
        unknown(),
        not_acknowledged(),
        closing("insert"),
        closing("commitTransaction"),
    ];
    for fault in faults {
        // Once, more often than a driver tries by itself, and until somebody mends it.
        for times in [Some(1), Some(2), Some(5), None] {
            let mode = times.map_or(Bson::from("alwaysOn"), |times| doc! { "times": times }.into());
            set.fail_commands(mode, fault.clone()).await;
            let key = target.fresh_key();
            let first = target.ask(&mut client, &key).await;
            let met = set.fail_no_more().await;
            assert!(met > 0, "nothing met {fault}");
            if times == Some(1) {
                assert!(first.refused().is_none(), "once is no reason to give up: {fault}");
            }
            if times.is_none() {
                assert!(first.refused().is_some(), "it was not made: {fault}");
            }
            target.settles(&mut client, &key, Some(&first)).await;
        }
    }
    target.adds_up(&mut client).await;
    server.stop();
    assert_clean(&data);
}
