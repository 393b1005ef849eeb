//! An operator of NATS with one account: the JWTs that it signs.

use nkeys::KeyPair;
use serde_json::{Value, json};

/// Signs for an account, which signs for users, and for the account that the server itself uses.
pub struct Operator {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

/// Whom the account lets in.
pub struct User {
    pub jwt: String,
    pub seed: String,
}

impl Operator {
    pub fn new() -> Self {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        Self { operator, account, system: KeyPair::new_account() }
    }

    /// The configuration of a server that knows the operator and both accounts.
    pub fn config(&self) -> String {
        let of_operator = json!({ "type": "operator", "version": 2 });
        let own = jwt(&self.operator, &self.operator, "operator", &of_operator);
        let mut limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
        });
        let account = |limits: &Value| json!({ "limits": limits, "type": "account", "version": 2 });
        let system = jwt(&self.operator, &self.system, "system", &account(&limits));
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[limit] = json!(-1);
        }
        let users = jwt(&self.operator, &self.account, "ipam", &account(&limits));
        let [account, system_account] =
            [&self.account, &self.system].map(|account| account.public_key());
        format!(
            "operator: \"{own}\"\nsystem_account: {system_account}\nresolver: MEMORY\n\
             resolver_preload {{ {account}: \"{users}\", {system_account}: \"{system}\" }}"
        )
    }

    pub fn user(&self) -> User {
        let pair = KeyPair::new_user();
        let claims = json!({
            "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2,
        });
        let jwt = jwt(&self.account, &pair, "user", &claims);
        User { jwt, seed: pair.seed().expect("it has a seed") }
    }
}

impl User {
    pub fn creds(&self) -> String {
        self.jwt_with(self)
    }

    /// With another's seed.
    pub fn jwt_with(&self, other: &Self) -> String {
        let (jwt, seed) = (&self.jwt, &other.seed);
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// What `issuer` says of `subject`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": name, "iat": 1_767_225_600, "name": name, "nats": claims,
        "iss": issuer.public_key(), "sub": subject.public_key(),
    });
    let signed = [header, body].map(|part| base64url(part.to_string().as_bytes())).join(".");
    let signature = issuer.sign(signed.as_bytes()).expect("it has a seed");
    format!("{signed}.{}", base64url(&signature))
}

/// Without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let of_chunk = |chunk: &[u8]| {
        let mut padded = [0; 4];
        padded[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(padded) as usize;
        (0..=chunk.len()).map(move |place| char::from(LETTERS[bits >> (18 - 6 * place) & 63]))
    };
    bytes.chunks(3).flat_map(of_chunk).collect()
}
