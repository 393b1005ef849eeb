//! The image by itself: what it is, and how it runs on the embedded store with as few rights as there are.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::compose::HEALTHY_WITHIN;
use crate::engine::{Container, Scope, docker, try_docker};
use crate::images;
use crate::judge::{connect, snapshot};

/// What takes away all that can be taken away.
const STRICT: [&str; 5] =
    ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"];

#[tokio::test(flavor = "multi_thread")]
async fn the_image_says_what_it_is() {
    let Some(_scope) = Scope::enter("config").await else { return };
    let config = docker(["image", "inspect", "--format", "{{json .Config}}", images::ipam()]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["User"], "65532:65532", "it does not run as root");
    assert_eq!(config["Entrypoint"], json!(["/ipam"]), "the program itself is signalled");
    assert_eq!(config["Cmd"], json!(["serve"]));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", "/ipam", "health"]));
    assert_eq!(config["ExposedPorts"], json!({"8000/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    let labels = config["Labels"].as_object().unwrap();
    for label in ["title", "description", "source", "licenses", "version", "revision"] {
        assert!(labels.contains_key(&format!("org.opencontainers.image.{label}")), "{label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_with_no_rights_ends_well_and_keeps_its_data() {
    let Some(scope) = Scope::enter("alone").await else { return };
    let (name, volume) = (scope.named("ipam"), format!("{}:/data", scope.named("data")));
    let run = ["run", "--detach", "--name", &name, "--volume", &volume];
    let port = ["--publish", "127.0.0.1::8000"];
    docker([&run[..], &port, &STRICT, &[images::ipam()]].concat());
    let container = Container(name.clone());
    let took = container.is_healthy(HEALTHY_WITHIN).await;
    println!("healthy after {took:.1?}");
    let address = published(&container);
    let pool = connect(address).await.new_pool().await;
    let before = snapshot(address).await;
    assert!(before.pools.contains_key(&pool));
    let took = container.stop();
    println!("SIGTERM ended it in {took:.1?}");
    assert!(took < Duration::from_secs(10), "{took:?}");

    // Another container on the same data.
    docker(["rm", &name]);
    docker([&run[..], &port, &STRICT, &[images::ipam()]].concat());
    container.is_healthy(HEALTHY_WITHIN).await;
    assert_eq!(snapshot(published(&container)).await, before);
    for (arguments, answer) in [
        (&["health"][..], "http://127.0.0.1:8000 is ready"),
        (&["health", "--live"], "http://127.0.0.1:8000 lives"),
    ] {
        assert_eq!(docker([&["exec", &name, "/ipam"], arguments].concat()), answer);
    }
    container.stop();
    let check = ["run", "--rm", "--volume", &volume];
    let checked = docker([&check[..], &STRICT, &[images::ipam(), "check"]].concat());
    assert!(checked.contains("every invariant holds"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_work_says_why_to_its_health_check() {
    let Some(scope) = Scope::enter("waits").await else { return };
    let name = scope.named("ipam");
    let run = ["run", "--detach", "--name", &name, "--network", "none"];
    let mongo = ["--env", "IPAM_MONGO=127.0.0.1:1"];
    docker([&run[..], &mongo, &STRICT, &[images::ipam()]].concat());
    let container = Container(name.clone());
    let what = "the health check was made";
    let (_, health) = crate::engine::within(HEALTHY_WITHIN, what, async || {
        let health = container.inspect("{{json .State.Health}}");
        let health: Value = serde_json::from_str(&health).ok()?;
        (!health["Log"].as_array()?.is_empty()).then_some(health)
    })
    .await;
    assert_ne!(health["Status"], "healthy");
    let said = &health["Log"][0];
    assert_eq!(said["ExitCode"], 1, "{said}");
    assert!(said["Output"].as_str().unwrap().contains("MongoDB is not available"), "{said}");
    assert_eq!(docker(["exec", &name, "/ipam", "health", "--live"]), "http://127.0.0.1:8000 lives");
    let other = try_docker(["exec", &name, "/ipam", "health", "http://127.0.0.1:1"]).unwrap_err();
    assert!(other.contains("http://127.0.0.1:1 is not well: cannot connect"), "{other}");
    container.stop();
}

fn published(container: &Container) -> SocketAddr {
    docker(["port", &container.0, "8000/tcp"]).parse().expect("an address")
}
