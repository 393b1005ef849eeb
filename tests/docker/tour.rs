//! The deployment as a newcomer meets it: it comes up, the commands of the README work, and what was made
//! is there after it was taken down and brought up again.

use std::time::Instant;

use crate::compose::{HEALTHY_WITHIN, Project};
use crate::documents::markdown::Document;
use crate::documents::session;
use crate::judge::{all_heard, all_published, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_up_takes_the_tour_and_keeps_the_data() {
    let Some(project) = Project::new("tour").await else { return };
    let took = project.up().await;
    println!("healthy after {took:.1?}, of {HEALTHY_WITHIN:?}");

    session::run(&mut Document::read("README.md"), &project.url());
    all_published(project.address, 1).await;
    let before = snapshot(project.address).await;
    assert!(!before.pools.is_empty());
    project.volumes_are_named(&["ipam", "mongo", "mongo-initiate", "nats"]);

    let begun = Instant::now();
    project.down();
    println!("down after {:.1?}", begun.elapsed());
    let took = project.up().await;
    println!("healthy again after {took:.1?}");
    assert_eq!(snapshot(project.address).await, before);
    all_published(project.address, 1).await;
    all_heard(project.address, &project.container("nats").ip()).await;
}
