//! A tokenizer whose tokens are bytes, and gateways that need no model.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thalweg::generate::{Full, GatewayCommand, GatewayHandle, Rejection, Submission, TokenEvent};
use thalweg::http::{Api, ApiConfig, ApiKeys, ChatTurn, ClusterStatus, Decoder, Text, TextError};
use thalweg::metrics::Metrics;
use thalweg_wire::{Candidate, Finish};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Ends an answer.
pub const EOS: u32 = 256;
/// Starts a prompt.
const BOS: u32 = 257;
/// Longest context of the fake, in tokens.
pub const CONTEXT: u32 = 256;
/// Name of the fake model. The slash is there because real names have one.
pub const MODEL: &str = "fake/bytes";
/// What the talking gateway says: words, a character of four bytes, and lines.
pub const SPEECH: &str = "The river bends 🌊 because water\nfinds the lowest way. ";

/// Tokens are bytes.
pub struct ByteText;

impl Text for ByteText {
    fn encode_chat(&self, turns: &[ChatTurn]) -> Result<Vec<u32>, TextError> {
        if let Some(turn) = turns.iter().find(|turn| turn.role == "stranger") {
            let refusal = io::Error::other(format!("role `{}` is unknown", turn.role));
            return Err(TextError::Template(Box::new(refusal)));
        }
        let lines = turns.iter().map(|turn| format!("{}:{}\n", turn.role, turn.content));
        self.encode(&lines.collect::<String>(), true)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let start = special.then_some(BOS);
        Ok(start.into_iter().chain(text.bytes().map(u32::from)).collect())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        let bytes = tokens.iter().filter_map(|&token| u8::try_from(token).ok());
        Ok(String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned())
    }

    fn decoder(self: Arc<Self>) -> Box<dyn Decoder> {
        Box::new(ByteDecoder(Vec::new()))
    }

    fn token_bytes(&self, token: u32) -> Vec<u8> {
        u8::try_from(token).into_iter().collect()
    }

    fn eos_ids(&self) -> Vec<u32> {
        vec![EOS]
    }

    fn vocabulary(&self) -> u32 {
        BOS + 1
    }
}

struct ByteDecoder(Vec<u8>);

impl Decoder for ByteDecoder {
    fn push(&mut self, token: u32) -> String {
        self.0.extend(u8::try_from(token));
        match std::str::from_utf8(&self.0) {
            Ok(text) => {
                let text = text.to_owned();
                self.0.clear();
                text
            }
            Err(_) => String::new(),
        }
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned()
    }
}

/// A server on a port of its own. Ends with the test's runtime.
pub struct Server {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Starts a server whose tokens come from `gateway`.
    pub async fn start(gateway: GatewayHandle, keys: &[&str]) -> Self {
        let metrics = Metrics::new(MODEL, "h1");
        let status = ClusterStatus { cluster: "test".to_owned(), ..ClusterStatus::default() };
        let api = Api::new(ApiConfig {
            gateway,
            text: Arc::new(ByteText),
            models: vec![MODEL.to_owned(), "alias".to_owned()],
            context_tokens: CONTEXT,
            keys: ApiKeys::new(keys.iter().map(ToString::to_string)),
            status: Arc::new(move || status.clone()),
            metrics: Arc::clone(&metrics),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(api.serve(listener, std::future::pending()));
        Self { address, metrics, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gateway in the hands of the test.
pub struct Puppet {
    commands: mpsc::UnboundedReceiver<GatewayCommand>,
}

/// A submission in the hands of the test.
pub struct Order {
    pub ticket: u64,
    pub submission: Submission,
    events: mpsc::Sender<TokenEvent>,
}

impl Puppet {
    /// Returns a handle for the server, and the other end of it.
    pub fn new() -> (GatewayHandle, Self) {
        let (to_test, commands) = mpsc::unbounded_channel();
        let handle = GatewayHandle::new(move |command| to_test.send(command).map_err(|_| Full));
        (handle, Self { commands })
    }

    /// Waits for a submission.
    pub async fn order(&mut self) -> Order {
        match self.commands.recv().await {
            Some(GatewayCommand::Submit { ticket, submission, events }) => {
                Order { ticket, submission, events }
            }
            other => panic!("a submission was due, not {other:?}"),
        }
    }

    /// Waits for a cancel and returns its ticket.
    pub async fn cancel(&mut self) -> u64 {
        match self.commands.recv().await {
            Some(GatewayCommand::Cancel { ticket }) => ticket,
            other => panic!("a cancel was due, not {other:?}"),
        }
    }

    /// Whether everything the server said was heard.
    pub fn is_quiet(&mut self) -> bool {
        self.commands.try_recv().is_err()
    }
}

impl Order {
    /// Sends the bytes of `text` as tokens, the last of them with `finish`.
    pub fn say(&self, text: &str, finish: Option<Finish>) {
        let count = text.len();
        for (at, byte) in text.bytes().enumerate() {
            let finish = finish.filter(|_| at + 1 == count);
            self.token(u32::from(byte), finish);
        }
    }

    /// Sends one token.
    pub fn token(&self, token: u32, finish: Option<Finish>) {
        self.event(token_event(&self.submission, token, finish));
    }

    /// Refuses, or gives up.
    pub fn reject(&self, rejection: Rejection) {
        self.event(TokenEvent::Rejected(rejection));
    }

    fn event(&self, event: TokenEvent) {
        self.events.try_send(event).expect("there is room for every event");
    }
}

/// A gateway that answers every prompt at once with [`SPEECH`] over and over. Greedy requests start
/// at its start; others start at a word chosen by their seed.
pub fn talking() -> GatewayHandle {
    GatewayHandle::new(|command| {
        let GatewayCommand::Submit { submission, events, .. } = command else { return Ok(()) };
        let start = if submission.sampling.temperature > 0.0 {
            let words = SPEECH.match_indices(' ').count() as u64;
            let word = usize::try_from(submission.sampling.seed % words).expect("few words");
            SPEECH.match_indices(' ').nth(word).map_or(0, |(at, _)| at)
        } else {
            0
        };
        let max_tokens = submission.sampling.max_tokens as usize;
        let tokens = SPEECH.bytes().cycle().skip(start).take(max_tokens);
        for (at, byte) in tokens.enumerate() {
            let finish = (at + 1 == max_tokens).then_some(Finish::Length);
            let event = token_event(&submission, u32::from(byte), finish);
            if events.try_send(event).is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// A gateway that refuses every prompt for the same reason.
pub fn refusing(rejection: Rejection) -> GatewayHandle {
    GatewayHandle::new(move |command| {
        if let GatewayCommand::Submit { events, .. } = command {
            events.try_send(TokenEvent::Rejected(rejection.clone())).expect("the first event");
        }
        Ok(())
    })
}

/// How long the overloaded gateway asks clients to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(3);

/// The likeliest tokens are the sampled one, then its successors, each half as likely.
fn token_event(submission: &Submission, token: u32, finish: Option<Finish>) -> TokenEvent {
    let half = std::f32::consts::LN_2;
    let likely = (0u8..).map(|at| Candidate {
        token: (token + u32::from(at)) % EOS,
        logprob: -half * f32::from(at + 1),
    });
    let count = submission.sampling.logprobs.unwrap_or(0);
    TokenEvent::Token {
        sampled: Candidate { token, logprob: -half },
        top: likely.take(usize::from(count)).collect(),
        finish,
    }
}
