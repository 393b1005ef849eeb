//! One request, and the JSON that it is answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::server::Server;

/// # Panics
/// When the answer is no success.
pub fn ask(server: &Server, method: &str, path: &str, body: &Value) -> Value {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.contains(" 20"), "{method} {path}: {line}");
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    let mut text = String::new();
    answer.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}
