//! `docker kill` of each part in turn under a burst of reservations, and the crash of each program inside
//! its container: nothing that was acknowledged is lost, no address is given twice, and every event comes
//! to a consumer.

use std::process::Command;

use crate::burst::Burst;
use crate::compose::{HEALTHY_WITHIN, Project};
use crate::engine::{Container, docker, until};
use crate::judge::{all_heard, all_published, holds, is_ready, new_pool};

const PARTS: [&str; 3] = ["ipam", "mongo", "nats"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_container_is_killed() {
    let Some(project) = Project::new("killed").await else { return };
    project.up().await;
    let pool = new_pool(project.address).await;
    let burst = Burst::begin("killed", &[project.address], &pool);
    burst.more(200).await;
    for part in PARTS {
        let (container, again) = (project.container(part), burst.again());
        container.kill();
        // The service does without NATS, and with nothing else.
        if part == "nats" {
            burst.more(100).await
        } else {
            burst.more_again(20).await
        }
        container.start();
        is_ready("it is ready again", project.address).await;
        burst.more(200).await;
        println!("{part} was killed: {} tries came again", burst.again() - again);
    }
    for part in PARTS {
        let container = project.container(part);
        if crash(&container) {
            came_back(part, &container).await;
            burst.more(200).await;
        }
    }
    let told = burst.end().await;
    holds(project.address, &pool, &told).await;
    all_published(project.address, 1).await;
    let heard = all_heard(project.address, &project.container("nats").ip()).await;
    println!("{} reservations were acknowledged, and {heard} messages heard", told.len());

    project.container("ipam").is_healthy(HEALTHY_WITHIN).await;
    let took = project.container("ipam").stop();
    println!("SIGTERM ended ipam in {took:.1?}");
    let checked = project.run(&["check"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(checked.contains("every invariant holds"), "{checked}");
}

/// `kill -9` of the program, of which the engine knows nothing before; false when we may not.
fn crash(container: &Container) -> bool {
    let pid = container.inspect("{{.State.Pid}}");
    let killed = Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
    if !killed.success() {
        eprintln!("skipped: only root may kill a program inside of a container");
    }
    killed.success()
}

/// By the restart policy.
async fn came_back(part: &str, container: &Container) {
    let what = format!("{part} is started again");
    let took = until(&what, async || {
        docker(["inspect", "--format", "{{.RestartCount}} {{.State.Running}}", &container.0])
            == "1 true"
    })
    .await;
    println!("{part} crashed and was started again after {took:.1?}");
}
