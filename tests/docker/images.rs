//! The images that the deployment names. One that is there is taken as it is; one that is not is made, and
//! removed when this run ends. That of ipam is this run's own: the last stage of deploy/Dockerfile with the
//! program under test.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::OnceLock;

use crate::engine::{bounded, docker, image_name, is_ours, said, try_docker};
use crate::server::IPAM;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PATH: &str = "ENV PATH=/usr/local/bin:/usr/bin:/bin";

/// The name, the tree that it is made of (see `tests/docker/images`), and what it is told beside.
const IMAGES: &[(&str, &str, &[&str])] = &[
    (
        "gcr.io/distroless/cc-debian12:nonroot",
        "distroless",
        &[
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
            "USER 65532",
        ],
    ),
    (
        "mongo:6.0",
        "mongo",
        &[PATH, "ENV HOME=/data/db", "VOLUME /data/db /data/configdb", "CMD [\"mongod\"]"],
    ),
    ("nats:2", "nats", &["ENTRYPOINT [\"/nats-server\"]"]),
    (
        "rabbitmq:3",
        "rabbitmq",
        &[
            PATH,
            "ENV HOME=/var/lib/rabbitmq LANG=C.UTF-8",
            "VOLUME /var/lib/rabbitmq",
            "ENTRYPOINT [\"docker-entrypoint.sh\"]",
            "CMD [\"rabbitmq-server\"]",
        ],
    ),
    (
        "hashicorp/consul:latest",
        "consul",
        &[PATH, "VOLUME /consul/data", "ENTRYPOINT [\"docker-entrypoint.sh\"]"],
    ),
];

/// The image of ipam, after all that it and the deployment need.
pub fn ipam() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let trees = said(bounded(&format!("{ROOT}/tests/docker/images")));
        let trees = trees.unwrap_or_else(|why| panic!("{why}"));
        for (image, tree, changes) in IMAGES {
            if try_docker(["image", "inspect", image]).is_err() {
                import(&format!("{trees}/{tree}.tar"), image, changes);
            }
        }
        build()
    })
}

fn import(tar: &str, image: &str, changes: &[&str]) {
    is_ours(image);
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    docker(["import"].into_iter().chain(changes).chain([tar, image]));
}

/// The last stage of the Dockerfile as it stands there, on another first one.
fn build() -> String {
    let file = fs::read_to_string(format!("{ROOT}/deploy/Dockerfile")).expect("it can be read");
    let last = file.rfind("\nFROM ").expect("it has stages") + 1;
    let program = program();
    let text = format!("FROM {program} AS ipam-build\n{}", &file[last..]);
    let image = image_name("ipam");
    is_ours(&image);
    let mut build = bounded("docker");
    build.args(["build", "--tag", &image, "-"]);
    build.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut build = build.spawn().expect("docker starts");
    let mut stdin = build.stdin.take().expect("stdin is piped");
    stdin.write_all(text.as_bytes()).expect("docker reads");
    drop(stdin);
    let output = build.wait_with_output().expect("docker ends");
    let said = [output.stdout, output.stderr].concat();
    let (status, said) = (output.status, String::from_utf8_lossy(&said));
    assert!(status.success(), "docker build ends with {status}: {said}");
    image
}

/// An image with the program under test where the first stage puts it.
fn program() -> String {
    let root = tempfile::tempdir().expect("a directory can be made");
    let place = |name: &str| root.path().join("tree").join(name).to_string_lossy().into_owned();
    fs::create_dir_all(place("data")).expect("a directory can be made");
    let mut strip = bounded("strip");
    strip.args(["-o", &place("ipam"), IPAM]);
    said(strip).unwrap_or_else(|why| panic!("{why}"));
    let tar = root.path().join("tar").to_string_lossy().into_owned();
    let mut pack = bounded("tar");
    pack.args(["-C", &place(""), "-cf", &tar, "."]);
    said(pack).unwrap_or_else(|why| panic!("{why}"));
    let image = image_name("build");
    import(&tar, &image, &[]);
    image
}
