//! Frames under way, and their sizes.

use thalweg_wire::{
    Activations, Attempt, Candidate, Class, DType, Frame, Heartbeat, Message, Open, Phase, Refusal,
    Refuse, Release, RequestId, Token,
};

/// Bytes of a token id in the payload of an open.
const TOKEN_ID_BYTES: f64 = 4.0;

/// A frame under way. Rows have no values here.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// A request opens, with its token ids.
    Open(Box<(Open, Vec<u32>)>),
    /// Rows between stages.
    Activations(Activations),
    /// A sampled token.
    Token(Token),
    /// A request is over.
    Release(Release),
    /// A stage did not take a request, or gave it up.
    Refuse(Refuse),
    /// Sign of life.
    Heartbeat(Heartbeat),
}

/// Sizes of frames on the wire. Headers are those of a typical frame of their kind; they differ by a
/// few bytes with the numbers in them.
#[derive(Clone, Copy, Debug)]
pub struct FrameSizes {
    activations: f64,
    token: f64,
    release: f64,
    refuse: f64,
    heartbeat: f64,
    /// Payload of one row.
    row: f64,
}

impl FrameSizes {
    /// Sizes where a row is `activation_bytes`.
    pub fn new(activation_bytes: f64) -> Self {
        let request = RequestId {
            gateway: thalweg_wire::HostId(u64::MAX),
            incarnation: 1 << 50,
            counter: 1 << 20,
        };
        let attempt = Attempt(0);
        let activations = Activations {
            request,
            attempt,
            first_position: 1000,
            count: 1,
            hidden: 8192,
            dtype: DType::F16,
            phase: Phase::Decode,
            sample: true,
            step: 1 << 20,
            step_frames: 20,
        };
        let sampled = Candidate { token: 1 << 14, logprob: 0.0 };
        let token =
            Token { request, attempt, position: 1000, sampled, top: Vec::new(), finish: None };
        let epoch = thalweg_wire::Epoch(1);
        let heartbeat =
            Heartbeat { epoch, kv_free_tokens: 1 << 20, requests: 100, queue_us: 1 << 17 };
        let refuse = Refuse { request, attempt, reason: Refusal::NoRoom };
        Self {
            activations: head_bytes(Message::Activations(activations)),
            token: head_bytes(Message::Token(token)),
            release: head_bytes(Message::Release(Release { request, attempt })),
            refuse: head_bytes(Message::Refuse(refuse)),
            heartbeat: head_bytes(Message::Heartbeat(heartbeat)),
            row: activation_bytes,
        }
    }

    /// Size of a frame.
    pub fn bytes(&self, parcel: &Parcel) -> f64 {
        match parcel {
            Parcel::Open(it) => {
                let (open, tokens) = &**it;
                head_bytes(Message::Open(open.clone())) + tokens.len() as f64 * TOKEN_ID_BYTES
            }
            Parcel::Activations(it) => self.activations + f64::from(it.count) * self.row,
            Parcel::Token(_) => self.token,
            Parcel::Release(_) => self.release,
            Parcel::Refuse(_) => self.refuse,
            Parcel::Heartbeat(_) => self.heartbeat,
        }
    }

    /// Payload of `rows` rows.
    pub fn payload_bytes(&self, rows: u32) -> f64 {
        f64::from(rows) * self.row
    }
}

impl Parcel {
    /// Class of the stream the frame travels on, as for the message it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Open(_) => Class::Prefill,
            Self::Activations(it) => match it.phase {
                Phase::Prefill => Class::Prefill,
                Phase::Decode => Class::Decode,
            },
            Self::Token(_) => Class::Token,
            Self::Release(_) | Self::Refuse(_) | Self::Heartbeat(_) => Class::Control,
        }
    }
}

/// Prefix and header.
fn head_bytes(message: Message) -> f64 {
    let head = Frame::bare(message).head().expect("within the limits of its kind");
    head.len() as f64
}
