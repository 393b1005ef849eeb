//! An agent that is asked over TLS and wants to see a certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::agent::Agent;
use crate::process::Port;
use crate::world::{Told, within_at};

/// What is in the agent's certificate instead of its address.
const NAME: &str = "consul.test";

fn write(root: &Path, name: &str, text: &str) -> PathBuf {
    let path = root.join(name);
    std::fs::write(&path, text).expect("a file can be written");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_registers_over_tls_within_10_seconds_with_a_certificate_and_not_without() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let file = write(root, &format!("{name}.pem"), &certificate.pem());
        (file, write(root, &format!("{name}.key"), &key.serialize_pem()))
    };
    let (ca_file, server, client) = (write(root, "ca.pem", &ca.pem()), issue(NAME), issue("ipam"));
    let port = Port::free();
    let shown = |path: &Path| path.display().to_string();
    let config = format!(
        r#"ports {{ https = {} }} ca_file = "{}" cert_file = "{}" key_file = "{}"
           verify_incoming_https = true"#,
        port.number,
        shown(&ca_file),
        shown(&server.0),
        shown(&server.1),
    );
    let mut agent = Agent::configured(&config, None);
    agent.restart().await;

    let address: SocketAddr = port.address();
    let told = || {
        let url = format!("https://{address}");
        let told = Told::at(&url).with("CONSUL_CACERT", ca_file.to_str().unwrap());
        told.with("CONSUL_TLS_SERVER_NAME", NAME)
    };
    let mut stranger = told().on_embedded();
    stranger.until_logged(10, "this instance is registered when it does").await;
    assert!(agent.instances("ipam").await.is_empty());
    stranger.stop(10, "stopped, though it is not let in");

    let known = told().with("IPAM_CONSUL_CERT", client.0.to_str().unwrap());
    let mut known = known.with("IPAM_CONSUL_KEY", client.1.to_str().unwrap()).on_embedded();
    within_at(&agent, 10, "registered and passing over TLS", async || {
        agent.states("ipam").await == ["passing"]
    })
    .await;
    known.stop(5, "stopped");
    assert!(agent.instances("ipam").await.is_empty(), "a stop takes it out");
}
