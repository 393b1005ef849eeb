//! The script that moves everything from the original service. What it reads from speaks the original's
//! API: this service does.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::ask;
use crate::documents::markdown::root;
use crate::server::{Server, assert_clean};

fn moved(from: &Server, to: &Server) -> String {
    let output = Command::new("python3")
        .arg(root().join("examples/from_rackhd.py"))
        .args([format!("http://{}", from.address), format!("http://{}/", to.address)])
        .output()
        .expect("python3 is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Address, name, metadata and reservation's name of each lease.
fn leases(server: &Server) -> Vec<(String, Value, Value)> {
    let all = ask(server, "GET", "/leases?limit=1000", &Value::Null);
    let lease = |lease: &Value| {
        let address = lease["address"].as_str().unwrap().to_owned();
        (address, lease["name"].clone(), lease["metadata"].clone())
    };
    let mut leases: Vec<_> = all["leases"].as_array().unwrap().iter().map(lease).collect();
    leases.sort_by(|a, b| a.0.cmp(&b.0));
    leases
}

#[test]
fn everything_moves_and_a_second_run_makes_nothing() {
    let data = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [old, new] = [Server::start(data[0].path()), Server::start(data[1].path())];
    // More than one page of reservations in the first.
    for (pool, net, held) in [("a", "10.1.0", 110), ("b", "10.2.0", 2)] {
        let pool = ask(
            &old,
            "POST",
            "/pools",
            &json!({"name": pool, "tags": ["t"], "metadata": {"row": 7}}),
        );
        let path = format!("/pools/{}/subnets", pool["id"].as_str().unwrap());
        let span = json!({"name": "s", "start": format!("{net}.10"), "end": format!("{net}.200")});
        let subnet = ask(&old, "POST", &path, &span);
        let path = format!("/subnets/{}/reservations", subnet["id"].as_str().unwrap());
        let reservation = |number| {
            let lease = json!({"name": format!("eth{number}"), "metadata": [number]});
            json!({"name": "r", "leases": [lease]})
        };
        let list: Value = (0..held).map(reservation).collect();
        ask(&old, "POST", &path, &list);
    }
    let ids = moved(&old, &new);
    assert_eq!(ids.lines().count(), 2 + 2 + 112);
    assert_eq!(leases(&new), leases(&old));

    let first = ids.lines().next().unwrap().split('\t').collect::<Vec<_>>();
    let found = ask(&new, "GET", &format!("/pools?tag=rackhd:{}", first[1]), &Value::Null);
    assert_eq!(found["pools"][0]["id"], first[2]);
    assert_eq!(found["pools"][0]["usage"]["reserved"], 110);
    assert_eq!(moved(&old, &new), ids, "what is there is found again");
    assert_eq!(leases(&new).len(), 112);
    old.stop();
    new.stop();
    data.iter().for_each(|data| assert_clean(data.path()));
}
