//! Ways to be let in by a bus: certificates, passwords, tokens, NKeys and JWTs, made for one test, as the
//! files of a client and the configuration of a server. Shared by the tests that need them.

mod authority;
mod operator;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipam::bus::nats::{NatsLogin, NatsSettings};
use nkeys::KeyPair;
use tempfile::TempDir;

use authority::Authority;
use operator::Operator;

/// What a client of NATS has.
#[derive(Clone)]
pub struct Way {
    pub login: NatsLogin,
    pub ca: Option<PathBuf>,
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A nats-server that does not let everybody in.
pub struct Gate {
    /// Of the server.
    pub config: String,
    pub lets_in: Way,
    /// With what is said then. Nothing may be said for certain (`""`) where it is open whether the
    /// server's refusal arrives before its connection is lost.
    pub refuses: Vec<(Way, &'static str)>,
    /// What nothing may show.
    pub secrets: Vec<String>,
    /// What the ways and the configuration name.
    _files: Files,
}

/// Files for one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Way {
    fn by(login: NatsLogin) -> Self {
        Self { login, ca: None, identity: None }
    }

    pub fn url(&self, server: SocketAddr) -> String {
        let scheme = if self.ca.is_some() { "tls" } else { "nats" };
        format!("{scheme}://{server}")
    }

    /// The settings of a server, reached in this way.
    pub fn settings(&self, settings: NatsSettings) -> NatsSettings {
        let Self { login, ca, identity } = self.clone();
        NatsSettings { login, ca, identity, ..settings }
    }

    /// Configures the program to reach a server in this way.
    pub fn tell(&self, command: &mut Command, server: SocketAddr) {
        let url = self.url(server);
        let (scheme, place) = url.split_once("://").expect("it is a URL");
        let user = match &self.login {
            NatsLogin::User { name, password } => format!("{name}:{password}@"),
            _ => String::new(),
        };
        command.env("IPAM_NATS", format!("{scheme}://{user}{place}"));
        match &self.login {
            NatsLogin::Nobody | NatsLogin::User { .. } => {}
            NatsLogin::Token(token) => drop(command.env("IPAM_NATS_TOKEN", token)),
            NatsLogin::Creds(path) => drop(command.env("IPAM_NATS_CREDS", path)),
            NatsLogin::Nkey(path) => drop(command.env("IPAM_NATS_NKEY", path)),
        }
        if let Some(ca) = &self.ca {
            command.env("IPAM_NATS_CA", ca);
        }
        if let Some((certificate, key)) = &self.identity {
            command.env("IPAM_NATS_CERT", certificate).env("IPAM_NATS_KEY", key);
        }
    }

    /// A client that is let in.
    pub async fn client(&self, server: SocketAddr) -> async_nats::Client {
        let read = |path: &Path| std::fs::read_to_string(path).expect("the file is there");
        let mut options = async_nats::ConnectOptions::new();
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &self.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let options = match &self.login {
            NatsLogin::Nobody => options,
            NatsLogin::User { name, password } => {
                options.user_and_password(name.clone(), password.clone())
            }
            NatsLogin::Token(token) => options.token(token.clone()),
            NatsLogin::Creds(path) => options.credentials(&read(path)).expect("credentials"),
            NatsLogin::Nkey(path) => options.nkey(read(path).trim().to_owned()),
        };
        options.connect(self.url(server)).await.expect("it is let in")
    }
}

const REFUSED: &str = "NATS: the server refuses the login";

/// A user and a password.
pub fn by_password() -> Gate {
    let user = |password: &str| {
        Way::by(NatsLogin::User { name: "ipam".to_owned(), password: password.to_owned() })
    };
    Gate {
        config: r#"authorization { user: "ipam", password: "right-password" }"#.to_owned(),
        lets_in: user("right-password"),
        refuses: vec![(user("wrong-password"), REFUSED), (Way::by(NatsLogin::Nobody), REFUSED)],
        secrets: vec!["right-password".to_owned(), "wrong-password".to_owned()],
        _files: Files::new(),
    }
}

/// A token.
pub fn by_token() -> Gate {
    let token = |token: &str| Way::by(NatsLogin::Token(token.to_owned()));
    Gate {
        config: r#"authorization { token: "right-token" }"#.to_owned(),
        lets_in: token("right-token"),
        refuses: vec![(token("wrong-token"), REFUSED)],
        secrets: vec!["right-token".to_owned(), "wrong-token".to_owned()],
        _files: Files::new(),
    }
}

/// An NKey, whose seed stands in a file.
pub fn by_nkey() -> Gate {
    let (files, pair, other) = (Files::new(), KeyPair::new_user(), KeyPair::new_user());
    let seed = |pair: &KeyPair| pair.seed().expect("it has a seed");
    let way = |name, seed: &str| Way::by(NatsLogin::Nkey(files.write(name, &format!("{seed}\n"))));
    let unsigned = "NATS: the login cannot be signed with its key";
    let broken = seed(&pair).replace(|c: char| c.is_ascii_digit(), "A");
    Gate {
        config: format!(r#"authorization {{ users: [{{ nkey: "{}" }}] }}"#, pair.public_key()),
        lets_in: way("right.nk", &seed(&pair)),
        refuses: vec![
            (way("other.nk", &seed(&other)), REFUSED),
            (way("broken.nk", &broken[..20]), unsigned),
            (Way::by(NatsLogin::Nkey(files.0.path().join("none.nk"))), "none.nk: No such file"),
        ],
        secrets: vec![seed(&pair), seed(&other), broken[..20].to_owned()],
        _files: files,
    }
}

/// A JWT that an account has signed for a user, and the user's seed, in one file; the server knows the
/// operator, and the accounts that this one has signed for.
pub fn by_jwt() -> Gate {
    let (files, operator, other) = (Files::new(), Operator::new(), Operator::new());
    let (user, stranger) = (operator.user(), other.user());
    let way = |name, text: &str| Way::by(NatsLogin::Creds(files.write(name, text)));
    let of_another_key = user.jwt_with(&stranger);
    Gate {
        config: operator.config(),
        lets_in: way("right.creds", &user.creds()),
        refuses: vec![
            (way("stranger.creds", &stranger.creds()), REFUSED),
            (way("mixed.creds", &of_another_key), REFUSED),
            (way("empty.creds", "nothing\n"), "empty.creds has no credentials in it"),
        ],
        secrets: [user, stranger].into_iter().flat_map(|user| [user.jwt, user.seed]).collect(),
        _files: files,
    }
}

/// TLS where both sides show a certificate, and a password.
pub fn by_certificate() -> Gate {
    let (ours, other) = (Authority::new(), Authority::new());
    let files = Files::new();
    let (certificate, key) = ours.issue(&files, "server");
    let config = format!(
        r#"tls {{ cert_file: "{}", key_file: "{}", ca_file: "{}", verify: true }}
        authorization {{ user: "ipam", password: "right-password" }}"#,
        certificate.display(),
        key.display(),
        ours.ca(&files, "ca").display(),
    );
    let lets_in = Way {
        login: by_password().lets_in.login,
        ca: Some(ours.ca(&files, "ca")),
        identity: Some(ours.issue(&files, "client")),
    };
    let with_ca = |ca| Way { ca: Some(ca), ..lets_in.clone() };
    let with_identity = |identity| Way { identity, ..lets_in.clone() };
    let absent = files.0.path().join("none.pem");
    let mut wrong_password = lets_in.clone();
    wrong_password.login =
        NatsLogin::User { name: "ipam".to_owned(), password: "wrong-password".to_owned() };
    let not_accepted = "NATS: the certificate of the server is not accepted here: ";
    let key_text = std::fs::read_to_string(&key).expect("the key is there");
    Gate {
        config,
        refuses: vec![
            (with_ca(other.ca(&files, "other")), not_accepted),
            (with_ca(absent.clone()), "none.pem: No such file"),
            (with_identity(None), ""),
            (with_identity(Some(other.issue(&files, "stranger"))), ""),
            (with_identity(Some((certificate, absent))), "none.pem: No such file"),
            (wrong_password, REFUSED),
        ],
        lets_in,
        secrets: vec![
            "right-password".to_owned(),
            "wrong-password".to_owned(),
            key_text.lines().nth(1).expect("a key has lines").to_owned(),
        ],
        _files: files,
    }
}

/// The configuration of a RabbitMQ that listens with TLS on a port as well, and whom it is signed by.
pub struct Secured {
    pub config: String,
    pub ca: PathBuf,
    pub other_ca: PathBuf,
    _files: Files,
}

pub fn rabbitmq_with_tls(port: u16) -> Secured {
    let (ours, files) = (Authority::new(), Files::new());
    let (certificate, key) = ours.issue(&files, "server");
    let (ca, other_ca) = (ours.ca(&files, "ca"), Authority::new().ca(&files, "other"));
    let config = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n",
        ca.display(),
        certificate.display(),
        key.display(),
    );
    Secured { config, ca, other_ca, _files: files }
}
