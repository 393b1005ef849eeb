//! The deployment as a newcomer meets it: it comes up, the commands of the README work, and what was made
//! is there after it was taken down and brought up again.

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::compose::{HEALTHY_WITHIN, Project};
use crate::engine::{bounded, said};
use crate::judge::{all_heard, all_published, snapshot};

/// Where the README speaks of a server.
const DOCUMENTED: &str = "http://127.0.0.1:8000";

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_up_takes_the_tour_and_keeps_the_data() {
    let Some(project) = Project::new("tour").await else { return };
    let took = project.up().await;
    println!("healthy after {took:.1?}, of {HEALTHY_WITHIN:?}");

    let commands = tour(&project.url());
    println!("{commands} commands of the README did what they say");
    all_published(project.address, 1).await;
    let before = snapshot(project.address).await;
    assert!(!before.pools.is_empty());

    let begun = Instant::now();
    project.down();
    println!("down after {:.1?}", begun.elapsed());
    let took = project.up().await;
    println!("healthy again after {took:.1?}");
    assert_eq!(snapshot(project.address).await, before);
    all_published(project.address, 1).await;
    all_heard(project.address, &project.container("nats").ip()).await;
}

/// Types the commands of the README's first section; answers how many there were.
fn tour(url: &str) -> usize {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("it can be read");
    let section = readme.split("\n## ").find(|section| section.starts_with("Reserve an address\n"));
    let section = section.expect("the README has a tour");
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let text = blocks.collect::<String>().replace("\\\n", " ");
    let mut variables: Vec<(String, String)> = Vec::new();
    let (mut answer, mut commands) = (Value::Null, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with("curl")) {
            let id = answer["id"].as_str().expect("the answer before has an id");
            variables.push((name.to_owned(), id.to_owned()));
            continue;
        }
        let mut shell = bounded("sh");
        let command = line.replace("curl ", "curl --fail-with-body ").replace(DOCUMENTED, url);
        shell.args(["-c", &command]).envs(variables.iter().map(|(name, id)| (name, id)));
        let printed = said(shell).unwrap_or_else(|why| panic!("{line}: {why}"));
        answer = serde_json::from_str(&printed).unwrap_or_default();
        commands += 1;
    }
    assert!(commands > 5, "a tour has some commands");
    commands
}
