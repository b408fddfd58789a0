//! What a gateway knows, hears, and wants done.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_wire::{Candidate, Finish, HostId, Open, Plan, Refuse, Release, Sampling, Token};

use crate::policy::GatewayPolicy;

/// What a gateway knows from the start.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Config {
    /// This host.
    pub me: HostId,
    /// Start of this process, in microseconds since 1970.
    pub incarnation: u64,
    /// Longest sequence served, in tokens.
    pub context_tokens: u32,
    /// Silence on a route after which the request is replayed. Far above the time of a long
    /// prompt on a busy cluster: it only finds what no host noticed.
    pub stall_after: Duration,
    /// How it admits and routes.
    pub policy: GatewayPolicy,
}

/// What the machine wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A client asks. Tickets grow: older requests go first, and none is used twice in the life
    /// of the process. `max_tokens` is lowered to what the plan has room for.
    Submit {
        /// Names the client's stream.
        ticket: u64,
        /// Token ids; at least one.
        prompt: Vec<u32>,
        /// How to sample, checked.
        sampling: Sampling,
        /// Larger goes first; see [`Open::PRIORITY_DEFAULT`].
        priority: u8,
        /// Whose request it is; zero is nobody's.
        tenant: u64,
    },
    /// The client left, or has what it needs.
    Cancel {
        /// Which stream.
        ticket: u64,
    },
    /// A token was sampled. Requests of other gateways are ignored.
    Token(Token),
    /// A stage refused.
    Refuse(Refuse),
    /// A plan is active.
    Plan(Plan),
    /// A host can be given work.
    HostUp(HostId),
    /// A host should get no new work, but keeps what it has.
    HostSuspect(HostId),
    /// A host was given up.
    HostDown(HostId),
    /// A host told how much room it has.
    Load {
        /// Who.
        host: HostId,
        /// KV tokens it could still take.
        kv_free_tokens: u64,
        /// Requests it works on.
        requests: u32,
        /// Time until rows that arrive now would be computed, in microseconds.
        queue_us: u64,
    },
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Open a request at its first stage.
    SendOpen {
        /// First stage; may be this host.
        to: HostId,
        /// The header.
        open: Open,
        /// The payload.
        tokens: Vec<u32>,
    },
    /// Free a request at one stage of its route.
    SendRelease {
        /// The stage; may be this host.
        to: HostId,
        /// Which request.
        release: Release,
    },
    /// Tell the client a token. After one with `finish` nothing more comes for the ticket.
    Emit {
        /// Which stream.
        ticket: u64,
        /// The token, with its log probability if one was asked for.
        sampled: Candidate,
        /// The most likely tokens, if asked for.
        top: Vec<Candidate>,
        /// Set on the last token.
        finish: Option<Finish>,
    },
    /// Tell the client that there will be nothing more.
    Reject {
        /// Which stream.
        ticket: u64,
        /// Why.
        reason: Rejection,
    },
}

/// Why a request was not, or not fully, served.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Rejection {
    /// Too many wait already, or it waited too long.
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// No plan is active.
    NoPlan,
    /// There is nothing to continue.
    EmptyPrompt,
    /// The prompt leaves no room for a token.
    TooLong {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens of prompt and answer together, at most.
        context_tokens: u32,
    },
}
