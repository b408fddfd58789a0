//! How the rest of the process asks for tokens: a handle on the gateway, whatever runs it.
//!
//! ```text
//! GatewayHandle::submit --Submit{ticket, submission, events}--> gateway
//! Generation::next      <------------- TokenEvent ------------- gateway
//! drop(Generation)      ------------ Cancel{ticket} ----------> gateway
//! ```
//!
//! A generation that is dropped before its last token is cancelled, so a client that left frees its
//! KV blocks without anyone remembering to say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thalweg_wire::{Candidate, Finish, Sampling};
use tokio::sync::mpsc;

/// Events beyond one per token: a rejection, and one to spare.
const EVENTS_EXTRA: usize = 2;

/// One prompt to be continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Token ids of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// How tokens are chosen, and how many at most.
    pub sampling: Sampling,
    /// Larger goes first; see [`Open::PRIORITY_DEFAULT`](thalweg_wire::Open::PRIORITY_DEFAULT).
    pub priority: u8,
    /// Whose it is: tenants take turns and share no cached prefix. Zero is nobody's.
    pub tenant: u64,
}

/// What happened to a generation.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenEvent {
    /// The next token.
    Token {
        /// The token. With [`Finish::Stop`] it is the stop token, which is not part of the text.
        sampled: Candidate,
        /// The most likely tokens, if asked for.
        top: Vec<Candidate>,
        /// Set on the last token; no event follows it.
        finish: Option<Finish>,
    },
    /// No (further) token will come; no event follows it.
    Rejected(Rejection),
}

/// Why the gateway does not take a request, or gives it up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Too many requests wait already.
    #[error("the queue is full; retry in {} s", retry_after.as_secs_f64().ceil())]
    Overloaded {
        /// When a retry is likely to find room.
        retry_after: Duration,
    },
    /// No plan is active, so nothing can be computed.
    #[error("no plan covers all layers of the model")]
    NoPlan,
    /// There is nothing to continue.
    #[error("the prompt has no token")]
    EmptyPrompt,
    /// The sequence would not fit the cluster's KV memory, however long it waits.
    #[error("{tokens} tokens are needed, but at most {max} fit")]
    TooLong {
        /// Prompt and `max_tokens` together.
        tokens: u64,
        /// The most that fits.
        max: u64,
    },
}

/// What the gateway is asked to do.
#[derive(Debug)]
pub enum GatewayCommand {
    /// Continue a prompt.
    Submit {
        /// Names the generation until it ends. Never reused within a process.
        ticket: u64,
        /// What to continue, and how.
        submission: Submission,
        /// Where events go. Has room for every event of the generation, so `try_send` is never
        /// refused for lack of it. A closed channel means the same as [`GatewayCommand::Cancel`].
        events: mpsc::Sender<TokenEvent>,
    },
    /// Give a generation up. Unknown tickets are ignored.
    Cancel {
        /// Which one.
        ticket: u64,
    },
}

/// The gateway is more commands behind than it accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the gateway takes no more commands now")]
pub struct Full;

/// A way to reach the gateway. Cheap to clone.
#[derive(Clone)]
pub struct GatewayHandle {
    send: Arc<dyn Fn(GatewayCommand) -> Result<(), Full> + Send + Sync>,
    tickets: Arc<AtomicU64>,
}

impl GatewayHandle {
    /// Creates a handle from `send`, which must neither block nor wait.
    pub fn new(send: impl Fn(GatewayCommand) -> Result<(), Full> + Send + Sync + 'static) -> Self {
        Self { send: Arc::new(send), tickets: Arc::new(AtomicU64::new(1)) }
    }

    /// Starts a generation.
    ///
    /// # Errors
    ///
    /// [`Full`] if the gateway takes no commands now; nothing was started.
    pub fn submit(&self, submission: Submission) -> Result<Generation, Full> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let events_max = submission.sampling.max_tokens as usize + EVENTS_EXTRA;
        let (events, receiver) = mpsc::channel(events_max);
        (self.send)(GatewayCommand::Submit { ticket, submission, events })?;
        Ok(Generation { ticket, events: receiver, send: Arc::clone(&self.send), ended: false })
    }
}

impl std::fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayHandle").finish_non_exhaustive()
    }
}

/// Tokens on their way. Dropping it before the last one cancels the rest.
pub struct Generation {
    ticket: u64,
    events: mpsc::Receiver<TokenEvent>,
    send: Arc<dyn Fn(GatewayCommand) -> Result<(), Full> + Send + Sync>,
    ended: bool,
}

impl Generation {
    /// Waits for the next event. `None` after the last one, or when the gateway is gone.
    pub async fn next(&mut self) -> Option<TokenEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the next event, or arranges for `cx` to be woken by it.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<TokenEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(cx));
        self.ended = match &event {
            Some(TokenEvent::Token { finish, .. }) => finish.is_some(),
            Some(TokenEvent::Rejected(_)) | None => true,
        };
        Poll::Ready(event)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.ended && (self.send)(GatewayCommand::Cancel { ticket: self.ticket }).is_err() {
            // The closed channel tells the gateway at the next token.
            tracing::debug!(ticket = self.ticket, "gateway was too busy to take a cancel");
        }
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("ticket", &self.ticket)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn submission() -> Submission {
        Submission { prompt: vec![1], sampling: Sampling::default(), priority: 100, tenant: 0 }
    }

    fn token(finish: Option<Finish>) -> TokenEvent {
        TokenEvent::Token { sampled: Candidate { token: 7, logprob: 0.0 }, top: Vec::new(), finish }
    }

    /// A gateway that keeps its commands.
    fn gateway() -> (GatewayHandle, Arc<Mutex<Vec<GatewayCommand>>>) {
        let commands = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&commands);
        let handle = GatewayHandle::new(move |command| {
            log.lock().expect("no test panics while holding it").push(command);
            Ok(())
        });
        (handle, commands)
    }

    fn events_of(command: &GatewayCommand) -> &mpsc::Sender<TokenEvent> {
        match command {
            GatewayCommand::Submit { events, .. } => events,
            GatewayCommand::Cancel { .. } => panic!("a cancel, not a submission"),
        }
    }

    #[tokio::test]
    async fn dropped_generation_is_cancelled_once() {
        let (handle, commands) = gateway();
        drop(handle.submit(submission()).expect("the fake takes everything"));
        let commands = commands.lock().expect("no test panics while holding it");
        assert_eq!(commands.len(), 2);
        assert!(matches!(commands[1], GatewayCommand::Cancel { ticket: 1 }));
    }

    #[tokio::test]
    async fn finished_generation_is_not_cancelled() {
        let (handle, commands) = gateway();
        let mut generation = handle.submit(submission()).expect("the fake takes everything");
        {
            let commands = commands.lock().expect("no test panics while holding it");
            let events = events_of(&commands[0]);
            events.try_send(token(None)).expect("room for max_tokens");
            events.try_send(token(Some(Finish::Length))).expect("room for max_tokens");
        }
        assert_eq!(generation.next().await, Some(token(None)));
        assert_eq!(generation.next().await, Some(token(Some(Finish::Length))));
        assert_eq!(generation.next().await, None);
        drop(generation);
        assert_eq!(commands.lock().expect("no test panics while holding it").len(), 1);
    }

    #[tokio::test]
    async fn channel_has_room_for_every_token() {
        let (handle, commands) = gateway();
        let generation = handle.submit(submission()).expect("the fake takes everything");
        let commands = commands.lock().expect("no test panics while holding it");
        let max_tokens = Sampling::default().max_tokens;
        for _ in 0..max_tokens {
            events_of(&commands[0]).try_send(token(None)).expect("room for max_tokens");
        }
        drop(commands);
        drop(generation);
    }
}
