//! The stream in JetStream that events go to.

use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use super::connect::away;
use super::settings::NatsSettings;
use crate::bus::BusError;
use crate::limits::NATS_DUPLICATES_WINDOW;

/// What events are published under.
const SUBJECTS: &str = "ipam.events.>";

/// Has the stream there: makes it when it is absent, and takes it as it is when it is there, if it takes
/// our subjects. False when the server has no JetStream.
///
/// # Errors
/// [`BusError::Away`]
pub async fn prepare(context: &Context, settings: &NatsSettings) -> Result<bool, BusError> {
    let name = &settings.stream;
    let stream = context.get_or_create_stream(Config {
        name: name.clone(),
        subjects: vec![SUBJECTS.to_owned()],
        storage: StorageType::File,
        num_replicas: settings.replicas,
        max_age: settings.max_age,
        // The server refuses a window longer than the age.
        duplicate_window: NATS_DUPLICATES_WINDOW.min(settings.max_age),
        description: Some("Events of ipam".to_owned()),
        ..Config::default()
    });
    let stream = match stream.await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStreamUnavailable => return Ok(false),
            CreateStreamErrorKind::JetStream(cause)
                if cause.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED
                    || cause.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                return Ok(false);
            }
            kind => return Err(away(format_args!("the stream {name} cannot be had: {kind}"))),
        },
    };
    let subjects = &stream.cached_info().config.subjects;
    if subjects.iter().any(|subject| covers(subject)) {
        return Ok(true);
    }
    let subjects = subjects.join(", ");
    Err(away(format_args!("the stream {name} takes {subjects}, and must take {SUBJECTS}")))
}

/// Whether a subject with wildcards takes whatever [`SUBJECTS`] takes.
fn covers(wider: &str) -> bool {
    let mut ours = SUBJECTS.split('.');
    for token in wider.split('.') {
        match (token, ours.next()) {
            (">", Some(_)) => return true,
            ("*", Some(own)) if own != ">" => {}
            (token, Some(own)) if token == own => {}
            _ => return false,
        }
    }
    ours.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_wider_subject_covers_ours_and_a_narrower_does_not() {
        for wider in ["ipam.events.>", "ipam.>", ">", "*.events.>", "ipam.*.>", "*.>", "*.*.>"] {
            assert!(covers(wider), "{wider}");
        }
        for other in [
            "ipam.events",
            "ipam.events.*",
            "ipam.events.*.>",
            "ipam.events.x.>",
            "ipam",
            "*",
            "dns.>",
            "ipam.event.>",
            "",
        ] {
            assert!(!covers(other), "{other}");
        }
    }
}
