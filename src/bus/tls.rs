//! What goes wrong with TLS, in sentences. The clients of both buses rest on the same library.

use std::io;

use async_nats::rustls::Error;

/// The sentence, when it is TLS that went wrong.
pub fn sentence(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        error @ Error::InvalidCertificate(_) => {
            Some(format!("the certificate of the server is not accepted here: {error}"))
        }
        error @ Error::AlertReceived(_) => {
            Some(format!("the server ends TLS; does it want a certificate of ours? {error}"))
        }
        error => Some(format!("TLS fails: {error}")),
    }
}
