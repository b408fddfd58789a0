//! What hosts say to each other: ids, units, layer ranges, messages, frames and their codec.
//!
//! This crate is the one vocabulary of the workspace. It does no I/O and knows no other crate of it.
//!
//! ```text
//! frame = prefix (16 bytes) | header (bincode, bounded) | payload (raw bytes: tensors, token ids)
//! ```
//!
//! Tensors never pass through the codec; bincode sees headers of at most a few kilobytes.

mod cluster;
mod codec;
mod frame;
mod id;
mod layer;
mod message;
mod plan;
mod sampling;
mod unit;

pub use cluster::{Command, CurvePoint, HostRecord, LinkMeasure, Profile, ProfileError};
pub use codec::{CodecError, decode, encode};
pub use frame::{Frame, FrameError, PREFIX_BYTES, PROTOCOL_VERSION, Prefix};
pub use id::{Attempt, Epoch, HostId, ModelId, RequestId};
pub use layer::{LayerRange, LayerRangeError};
pub use message::{
    Activations, Candidate, Class, Credit, DType, Finish, Heartbeat, Hello, Kind, Message, Open,
    Phase, Refusal, Refuse, Release, Token,
};
pub use plan::{Assignment, End, Hop, ModelShape, Plan, Route, RouteError, Weight};
pub use sampling::{Sampling, SamplingError};
pub use unit::{BitsPerSecond, Bytes};
