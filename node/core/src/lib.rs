//! The machines: everything a host decides, without a clock, a socket or a thread.
//!
//! ```text
//!              Submit                Open, Activations, Token
//!   API ----> gateway ---- route ----> stage ----> stage ----> ... ----> stage
//!               ^  \__ router (weights)  |  \__ kv (blocks), batch          |
//!               |                        v                                  |
//!               |                   Step on the compute thread              |
//!               +------------------------- Token ---------------------------+
//!
//!   log ----> conductor (holds a registry) ----> Load, Keep, Activate, Retire
//!   heartbeats ----> liveness ----> Trust, Suspect, Forget
//!   frames ----> credit (Outbox, Inbox)
//! ```
//!
//! Every host runs one of each. What a machine wants done it says as an effect; the host that runs
//! it carries the effect out. Machines share no state: the host delivers the effects of one as
//! events of another.

pub mod conductor;
pub mod credit;
pub mod fair;
#[cfg(test)]
mod fixture;
pub mod gateway;
pub mod kv;
pub mod liveness;
pub mod machine;
pub mod policy;
pub mod registry;
pub mod router;
pub mod stage;
