//! A network that stalls, resets, or loses a message, at every step of a commit: what came of it is
//! found out and never guessed, and the service goes on by itself.

use crate::mongod::ReplicaSet;
use crate::proxy::{Fault, Place, Plan, Proxy};
use crate::support::{
    Client, Server, Target, assert_clean, by, fresh, removed, with_commit_timeout,
};

/// The commands of the commit of one reservation, in a service that has made some before.
pub async fn steps_of_a_commit(
    proxy: &Proxy,
    client: &mut Client,
    target: &mut Target,
) -> Vec<String> {
    for _ in 0..2 {
        let key = target.fresh_key();
        target.insist(client, &key).await;
    }
    let steps = proxy.commands();
    assert!(steps.len() > 2, "{steps:?}");
    assert_eq!(steps.last().unwrap(), "commitTransaction", "{steps:?}");
    steps
}

async fn fails_at_every_step(place: Place, fault: Fault) {
    let set = ReplicaSet::shared().await;
    let proxy = Proxy::start(set.address(0)).await;
    let data = fresh(set);
    let server = Server::start_by(with_commit_timeout("1s"), by(proxy.uri(), &data));
    let mut client = server.connect().await;
    let mut target = Target::make(&mut client).await;
    let steps = steps_of_a_commit(&proxy, &mut client, &mut target).await;
    for (step, name) in steps.iter().enumerate() {
        // The one before may have been of another shape, after a failure.
        assert_eq!(steps_of_a_commit(&proxy, &mut client, &mut target).await, steps);
        proxy.arm(Plan { step, place, fault });
        let key = target.fresh_key();
        let first = target.ask(&mut client, &key).await;
        assert!(!proxy.disarm(), "nothing failed at {name}");
        target.settles(&mut client, &key, Some(&first)).await;
    }
    target.adds_up(&mut client).await;
    server.stop();
    assert_clean(&data);
    removed(&data).await;
}

macro_rules! every_step {
    ($($test:ident: $place:ident, $fault:ident;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            fails_at_every_step(Place::$place, Fault::$fault).await;
        })+
    };
}

every_step! {
    a_connection_that_stalls_before_a_command: Command, Stall;
    a_connection_that_is_reset_before_a_command: Command, Reset;
    a_command_that_is_lost: Command, Swallow;
    a_connection_that_stalls_before_a_reply: Reply, Stall;
    a_connection_that_is_reset_before_a_reply: Reply, Reset;
    a_reply_that_is_lost: Reply, Swallow;
}
