//! Just enough HTTP to see every byte of an answer, and to leave in the middle of one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// An answer in progress. Dropped, it closes the connection.
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    body: BufReader<TcpStream>,
}

/// Posts JSON.
pub async fn post(server: SocketAddr, path: &str, body: &Value) -> Reply {
    send(server, "POST", path, "", &body.to_string()).await
}

/// Gets.
pub async fn get(server: SocketAddr, path: &str) -> Reply {
    send(server, "GET", path, "", "").await
}

/// Sends a request; `headers` are whole lines. Returns when the head of the answer is there.
pub async fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Reply {
    let mut stream = write(server, method, path, headers, body).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the head is whole"));
    }
    let head = String::from_utf8(head).expect("heads are ASCII");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|it| it.parse().ok()).expect("a status line");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Reply { status, headers, body: stream }
}

/// Sends a request and does not wait for the answer.
pub async fn write(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the server reads");
    stream.write_all(body.as_bytes()).await.expect("the server reads");
    BufReader::new(stream)
}

impl Reply {
    /// Reads the whole body.
    pub async fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).await.expect("text until the end");
        text
    }

    /// Reads the whole body, which is JSON.
    pub async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in `{text}`"))
    }

    /// Waits for the data of the next event; `None` at the end of the stream.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).await.expect("lines until the end") == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
        }
    }

    /// Reads all events up to `[DONE]`, which must be the last.
    pub async fn events(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(data) = self.event().await {
            if data == "[DONE]" {
                assert_eq!(self.event().await, None, "something follows [DONE]");
                return events;
            }
            events.push(serde_json::from_str(&data).expect("events are JSON"));
        }
        panic!("the stream ended without [DONE] after {events:?}");
    }
}
