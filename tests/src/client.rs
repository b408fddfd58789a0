//! A client of one host's API. Speaks JSON and server-sent events, and waits as long as it takes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use thalweg::http::ClusterStatus;

/// How long a client that the queue has no room for waits before it asks again.
const TURN: Duration = Duration::from_secs(2);

/// A client of one host.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    agent: ureq::Agent,
}

/// An answer that arrives piece by piece. Dropped early, the connection is closed.
pub struct Stream {
    lines: BufReader<Box<dyn Read + Send + Sync>>,
}

impl Client {
    /// Creates a client of the host at `address`.
    pub fn new(address: SocketAddr) -> Self {
        // Idle connections are not kept: a closed stream must close its connection.
        let agent = ureq::AgentBuilder::new().max_idle_connections(0).build();
        Self { base: format!("http://{address}"), agent }
    }

    /// Address of the API.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The cluster as this host sees it; `None` while it does not answer.
    pub fn status(&self) -> Option<ClusterStatus> {
        let answer = self.agent.get(&format!("{}/api/v1/status", self.base)).call().ok()?;
        answer.into_json().ok()
    }

    /// The value of a counter or gauge of this host, whatever its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let answer = self.agent.get(&format!("{}/metrics", self.base)).call();
        let text = answer.unwrap_or_else(|error| panic!("{error}")).into_string();
        let text = text.unwrap_or_else(|error| panic!("{error}"));
        let value = |line: &str| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            labels.starts_with('{').then(|| value.parse().ok())?
        };
        text.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }

    /// Posts `body`, which need not be JSON, and returns status code and answer.
    pub fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let request = self.agent.post(&format!("{}{path}", self.base));
        let request = request.set("content-type", "application/json");
        let answer = match request.send_string(body) {
            Ok(answer) | Err(ureq::Error::Status(_, answer)) => answer,
            Err(error) => panic!("{path}: {error}"),
        };
        let code = answer.status();
        (code, answer.into_json().unwrap_or(Value::Null))
    }

    /// Posts `body` and returns the answer, which must be a good one.
    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let (code, answer) = self.post(path, &body.to_string());
        assert_eq!(code, 200, "{path} {body}: {answer}");
        answer
    }

    /// Continues `prompt` greedily by `count` tokens and returns their texts.
    pub fn tokens(&self, prompt: &[u32], count: usize) -> Vec<String> {
        let answer = self.ask("/v1/completions", &greedy(prompt, count));
        texts(&answer["choices"][0])
    }

    /// Like [`tokens`](Self::tokens), asking again for as long as the queue is full.
    pub fn tokens_in_turn(&self, prompt: &[u32], count: usize) -> Vec<String> {
        loop {
            let body = greedy(prompt, count);
            let (code, answer) = self.post("/v1/completions", &body.to_string());
            match code {
                200 => return texts(&answer["choices"][0]),
                429 => thread::sleep(TURN),
                _ => panic!("{code} {body}: {answer}"),
            }
        }
    }

    /// Like [`tokens`](Self::tokens), one by one.
    pub fn stream(&self, prompt: &[u32], count: usize) -> Stream {
        let mut body = greedy(prompt, count);
        body["stream"] = json!(true);
        let request = self.agent.post(&format!("{}/v1/completions", self.base));
        let answer = request.send_json(body).unwrap_or_else(|error| panic!("{error}"));
        Stream { lines: BufReader::new(answer.into_reader()) }
    }
}

impl Iterator for Stream {
    /// The tokens of one piece, or the complaint that ended the stream early.
    type Item = Result<Vec<String>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(0) => return Some(Err("the stream ended without a last line".to_owned())),
                Ok(_) => {}
                Err(error) => return Some(Err(error.to_string())),
            }
            let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return None;
            }
            let Ok(chunk) = serde_json::from_str::<Value>(data) else {
                return Some(Err(format!("no JSON: {data}")));
            };
            if !chunk["error"].is_null() {
                return Some(Err(chunk["error"].to_string()));
            }
            return Some(Ok(texts(&chunk["choices"][0])));
        }
    }
}

/// A request for `count` greedy tokens after `prompt`, with the text of each.
fn greedy(prompt: &[u32], count: usize) -> Value {
    json!({
        "prompt": prompt,
        "max_tokens": count,
        "temperature": 0,
        "logprobs": 0,
        "ignore_eos": true,
    })
}

/// The texts of a choice's tokens.
fn texts(choice: &Value) -> Vec<String> {
    let tokens = choice["logprobs"]["tokens"].as_array();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    tokens.into_iter().flatten().map(text).collect()
}
