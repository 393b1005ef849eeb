//! A certificate authority.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::Files;

/// Signs for servers on the loopback and for clients.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut params = named(&format!("authority {}", NEXT.fetch_add(1, Ordering::Relaxed)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, new_key()).expect("it signs for itself"))
    }

    /// Its own certificate.
    pub(super) fn ca(&self, files: &Files, name: &str) -> PathBuf {
        files.write(&format!("{name}.pem"), &self.0.pem())
    }

    /// A certificate and its key.
    pub(super) fn issue(&self, files: &Files, name: &str) -> (PathBuf, PathBuf) {
        let (mut params, key) = (named(name), new_key());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).expect("it signs");
        (
            files.write(&format!("{name}.pem"), &certificate.pem()),
            files.write(&format!("{name}.key"), &key.serialize_pem()),
        )
    }
}

fn named(name: &str) -> CertificateParams {
    let places = ["127.0.0.1", "localhost"].map(str::to_owned);
    let mut params = CertificateParams::new(places).expect("they are names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}
