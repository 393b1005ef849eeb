//! `kill -9` in the middle of a commit leaves a transaction open on the server, with its keys locked.
//! The next start does not wait for them.

use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::mongod::ReplicaSet;
use crate::network::steps_of_a_commit;
use crate::proxy::{Fault, Place, Plan, Proxy};
use crate::support::{Server, Target, assert_clean, by, fresh, removed};

/// From the start of the program.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_commit_delays_nobody() {
    let set = ReplicaSet::shared().await;
    let proxy = Proxy::start(set.address(0)).await;
    let data = fresh(set);
    let through_proxy = by(proxy.uri(), &data);
    let mut server = Server::start(&through_proxy);
    let mut client = server.connect().await;
    let mut target = Target::make(&mut client).await;
    let steps = steps_of_a_commit(&proxy, &mut client, &mut target).await;

    for (step, name) in steps.iter().enumerate() {
        for place in [Place::Command, Place::Reply] {
            assert_eq!(steps_of_a_commit(&proxy, &mut client, &mut target).await, steps);
            proxy.arm(Plan { step, place, fault: Fault::Stall });
            let key = target.fresh_key();
            tokio::select! {
                answer = target.try_ask(&mut client, &key) => panic!("answered: {answer:?}"),
                () = proxy.has_fired() => {}
            }
            server.kill();

            let begun = Instant::now();
            server = Server::start(&through_proxy);
            client = server.connect().await;
            // It takes the address that the dead one had taken.
            let other = target.fresh_key();
            let answer = target.ask(&mut client, &other).await;
            let took = begun.elapsed();
            assert_eq!(answer.status, StatusCode::CREATED, "{name}: {}", answer.body);
            assert!(took < ANSWERED_WITHIN, "{took:?} after a crash at {place:?} of {name}");
            target.settles(&mut client, &key, None).await;
        }
    }
    target.adds_up(&mut client).await;
    server.stop();
    assert_clean(&data);
    removed(&data).await;
}
