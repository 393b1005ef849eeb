//! Clients that take nothing of their answer.
//!
//! Whoever makes an answer notices when it is not taken and gives up (see [`STREAM_STALL_MAX`]). What was
//! handed to the connection by then is still there, and the connection waits for a client that may never
//! read, and says so whenever it is asked: nothing here would end it. So the kernel is told to.

use std::any::Any;

use actix_web::rt::net::TcpStream;

use crate::limits::STREAM_STALL_MAX;

/// Has a new connection end when the other side takes or acknowledges nothing for so long.
pub fn bound(connection: &dyn Any) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(STREAM_STALL_MAX))
    {
        // It has ended already.
        tracing::debug!(%error, "a connection cannot be bounded");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, STREAM_STALL_MAX);
}
