//! A small HTTP client for the verbs that talk to a running host. This is the only place that knows
//! ureq.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;

use super::advice::Advice;

/// Where a host started with default options answers.
pub const SERVER_DEFAULT: &str = "http://127.0.0.1:8000";
/// How long a connection may take to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long a server may be silent. Streams carry a keep-alive every ten seconds.
const READ_WAIT: Duration = Duration::from_secs(120);
/// Size of an error's body at most that is looked at.
const ERROR_TEXT_MAX: usize = 500;

/// How to reach a server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Address of any host's API
    #[arg(long, value_name = "URL", env = "THALWEG_SERVER", default_value = SERVER_DEFAULT)]
    pub server: String,

    /// API key, if the server asks for one
    #[arg(long, value_name = "KEY", env = "THALWEG_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

/// Gets the JSON at `path` of the server at `base`.
///
/// # Errors
///
/// If the server is not reached, refuses, or does not answer in JSON.
pub fn get(base: &str, path: &str, key: Option<&str>) -> Result<Value, Advice> {
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let response = authorized(agent().get(&url), key).call();
    let response = response.map_err(|error| refused(base, error))?;
    response
        .into_json()
        .map_err(|source| Advice::new(format!("`{url}` does not answer in JSON"), source))
}

/// Gets what the server at `base` has counted, in OpenMetrics text.
///
/// # Errors
///
/// If the server is not reached or refuses.
pub fn metrics(base: &str, key: Option<&str>) -> Result<String, Advice> {
    let url = format!("{}/metrics", base.trim_end_matches('/'));
    let response = authorized(agent().get(&url), key).call();
    let response = response.map_err(|error| refused(base, error))?;
    response.into_string().map_err(|source| Advice::new(format!("`{url}` breaks off"), source))
}

/// The value of a counter, gauge, sum or count in OpenMetrics text, whatever its labels.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        labels.starts_with('{').then(|| value.parse().ok())?
    };
    text.lines().find_map(value)
}

/// Posts `body` to `path` and returns the data of each server-sent event, without the last
/// `[DONE]`.
///
/// # Errors
///
/// If the server is not reached or refuses. Items are errors where the stream breaks off or the
/// server gives up half-way.
pub fn post_stream(
    base: &str,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> Result<impl Iterator<Item = Result<Value, Advice>>, Advice> {
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let response = authorized(agent().post(&url), key).send_json(body);
    let response = response.map_err(|error| refused(base, error))?;
    let lines = BufReader::new(response.into_reader()).lines();
    let data = lines.filter_map(|line| match line {
        Ok(line) => line.strip_prefix("data:").map(|data| Ok(data.trim().to_owned())),
        Err(source) => Some(Err(Advice::new("the answer broke off", source))),
    });
    let data = data.take_while(|item| !matches!(item, Ok(data) if data == "[DONE]"));
    Ok(data.map(|item| item.and_then(|data| event(&data))))
}

fn event(data: &str) -> Result<Value, Advice> {
    let event: Value = serde_json::from_str(data)
        .map_err(|source| Advice::new("the server sent an event that is not JSON", source))?;
    match event["error"]["message"].as_str() {
        Some(message) => Err(Advice::plain(format!("the server gave up: {message}"))),
        None => Ok(event),
    }
}

fn agent() -> ureq::Agent {
    ureq::AgentBuilder::new().timeout_connect(CONNECT_WAIT).timeout_read(READ_WAIT).build()
}

fn authorized(request: ureq::Request, key: Option<&str>) -> ureq::Request {
    match key {
        Some(key) => request.set("Authorization", &format!("Bearer {key}")),
        None => request,
    }
}

fn refused(base: &str, error: ureq::Error) -> Advice {
    match error {
        ureq::Error::Status(status, response) => {
            let text = response.into_string().unwrap_or_default();
            let envelope: Value = serde_json::from_str(&text).unwrap_or_default();
            let short = || text.chars().take(ERROR_TEXT_MAX).collect();
            let message = envelope["error"]["message"].as_str().map_or_else(short, str::to_owned);
            let advice = Advice::plain(format!("`{base}` answers {status}: {message}"));
            match status {
                401 => advice.hint("Give the server's key with `--api-key`."),
                429 | 503 => advice.hint("Run `thalweg status` to see what the cluster is doing."),
                _ => advice,
            }
        }
        ureq::Error::Transport(source) => {
            Advice::new(format!("cannot reach a server at `{base}`"), source)
                .hint("Start one with `thalweg serve`, or name another with `--server`.")
        }
    }
}
