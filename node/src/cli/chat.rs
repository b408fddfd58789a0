//! `thalweg chat`: talk to the model of a running cluster.

use std::io::{self, BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};

use super::advice::Advice;
use super::client::{self, ServerArgs};

/// Talk to the model of a running cluster
///
/// With a prompt, prints the answer and ends. Without, reads one message per line until the end of
/// the input and keeps the conversation. Answers go to stdout, tokens/s to stderr.
#[derive(Clone, Debug, clap::Args)]
pub struct ChatArgs {
    /// What to say; several words are joined
    prompt: Vec<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Model to ask; the server's default if absent
    #[arg(short, long)]
    model: Option<String>,

    /// Instructions that come before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Tokens to generate at most per answer
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,

    /// Zero always takes the likeliest token; higher is more varied
    #[arg(long)]
    temperature: Option<f32>,

    /// Makes the answers repeatable
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs `thalweg chat`.
///
/// # Errors
///
/// If the server is not reached or refuses, or the answer cannot be written.
pub fn run(args: &ChatArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let mut talk = Talk::new(args);
    if !args.prompt.is_empty() {
        return talk.say(&args.prompt.join(" "), stdout).map(drop);
    }
    let cannot_read = |source| Advice::new("cannot read the next message", source);
    let mut lines = io::stdin().lock().lines();
    loop {
        eprint!("> ");
        let Some(line) = lines.next().transpose().map_err(cannot_read)? else { break };
        if !line.trim().is_empty() {
            talk.say(&line, stdout)?;
        }
    }
    eprintln!();
    Ok(())
}

/// Streams the greedy answer to one prompt to `stdout` and tells when its first token came.
///
/// # Errors
///
/// If the server is not reached or refuses, or the answer cannot be written.
pub fn answer(
    base: &str,
    key: Option<&str>,
    prompt: &str,
    stdout: &mut impl Write,
) -> Result<Instant, Advice> {
    let server = base.to_owned();
    let server = ServerArgs { server, api_key: key.map(str::to_owned) };
    Talk { server, options: json!({"temperature": 0}), messages: Vec::new() }.say(prompt, stdout)
}

/// A conversation so far.
struct Talk {
    server: ServerArgs,
    /// Fields of every request.
    options: Value,
    messages: Vec<Value>,
}

/// One answer, taken apart.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    first: Option<Instant>,
    tokens: u64,
}

impl Talk {
    fn new(args: &ChatArgs) -> Self {
        let given = [
            ("model", args.model.clone().map(Value::from)),
            ("max_tokens", args.max_tokens.map(Value::from)),
            ("temperature", args.temperature.map(Value::from)),
            ("seed", args.seed.map(Value::from)),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let system = args.system.iter().map(|text| json!({"role": "system", "content": text}));
        Self {
            server: args.server.clone(),
            options: Value::Object(given.collect()),
            messages: system.collect(),
        }
    }

    /// Says `prompt` and streams the answer; returns when its first token came.
    fn say(&mut self, prompt: &str, stdout: &mut impl Write) -> Result<Instant, Advice> {
        self.messages.push(json!({"role": "user", "content": prompt}));
        let started = Instant::now();
        let ServerArgs { server, api_key } = &self.server;
        let body = self.body();
        let events = client::post_stream(server, "/v1/chat/completions", api_key.as_deref(), &body);
        let heard = listen(events?, stdout)?;
        let first = heard.first.unwrap_or_else(Instant::now);
        eprintln!("{}", summary(heard.tokens, started, first, Instant::now()));
        self.messages.push(json!({"role": "assistant", "content": heard.text}));
        Ok(first)
    }

    fn body(&self) -> Value {
        let mut body = self.options.clone();
        body["messages"] = self.messages.clone().into();
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        body
    }
}

fn listen(
    events: impl Iterator<Item = Result<Value, Advice>>,
    stdout: &mut impl Write,
) -> Result<Heard, Advice> {
    let failed = |source| Advice::new("cannot write the answer", source);
    let mut heard = Heard::default();
    for event in events {
        let event = event?;
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            heard.tokens = tokens;
        }
        let Some(text) = event["choices"][0]["delta"]["content"].as_str() else { continue };
        if !text.is_empty() {
            heard.first.get_or_insert_with(Instant::now);
        }
        heard.text.push_str(text);
        write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(failed)?;
    }
    writeln!(stdout).map_err(failed)?;
    Ok(heard)
}

/// Rates count the tokens after the first, over the time after the first.
fn summary(tokens: u64, started: Instant, first: Instant, ended: Instant) -> String {
    let wait_s = first.duration_since(started).as_secs_f64();
    let decode_s = ended.duration_since(first).as_secs_f64();
    let rate = tokens.saturating_sub(1) as f64 / decode_s.max(f64::EPSILON);
    match tokens {
        0 | 1 => format!("[{tokens} tokens, first after {wait_s:.2} s]"),
        _ => format!("[{tokens} tokens, first after {wait_s:.2} s, then {rate:.1} tokens/s]"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rate_leaves_the_first_token_out() {
        let started = Instant::now();
        let first = started + Duration::from_millis(500);
        let line = summary(21, started, first, first + Duration::from_secs(2));
        assert_eq!(line, "[21 tokens, first after 0.50 s, then 10.0 tokens/s]");
    }

    #[test]
    fn text_is_what_the_deltas_say() {
        let delta = |text: &str| Ok(json!({"choices": [{"delta": {"content": text}}]}));
        let usage = json!({"choices": [], "usage": {"completion_tokens": 2}});
        let mut shown = Vec::new();
        let events = [delta(""), delta("ri"), delta("ver"), Ok(usage)];
        let heard = listen(events.into_iter(), &mut shown).expect("nothing fails");
        assert_eq!((heard.text.as_str(), heard.tokens), ("river", 2));
        assert_eq!(shown, b"river\n");
    }
}
