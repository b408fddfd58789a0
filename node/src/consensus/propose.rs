//! Brings a command from any host into the log.
//!
//! Only the leader appends. Any other host calls it; whoever is called and does not lead answers
//! with the leader it knows, and never calls further, so proposals cannot run in circles.

use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use thalweg_wire::{CodecError, Command, HostId};

use super::{Consensus, Topic};

/// Encoded size of a command at most, so that several fit one call between hosts.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;

/// Why a command is not known to be committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The command is larger than an entry may be.
    #[error("command takes {bytes} bytes, above the limit of {COMMAND_BYTES_MAX}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
    },
    /// The command does not encode.
    #[error("command does not encode")]
    Unencodable(#[source] CodecError),
    /// No leader committed it in time: too few voters reach each other. It may still be committed.
    #[error("no leader committed the command within {waited:?}")]
    NoLeader {
        /// How long was tried.
        waited: Duration,
    },
    /// This host left the group.
    #[error("consensus has stopped on this host")]
    Stopped,
}

/// What a member says to a proposal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
enum Answer {
    /// Committed and applied by the leader.
    Committed { index: u64 },
    /// Not here; perhaps there. Whether the command was appended is not known.
    Elsewhere { leader: Option<HostId> },
    /// This member left the group.
    Stopped,
}

impl Consensus {
    /// Replicates `command`, wherever the leader is, and returns its position in the log once it
    /// is committed.
    ///
    /// A leader lost half-way leads to another try, so a command may be committed twice: applying
    /// it again must change nothing. Dropping the future gives up waiting, not the command.
    ///
    /// # Errors
    ///
    /// If the command is too large, or no majority of voters answered for several elections.
    pub async fn propose(&self, command: Command) -> Result<u64, ProposeError> {
        let body = thalweg_wire::encode(&command).map_err(ProposeError::Unencodable)?;
        if body.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: body.len() });
        }
        let waited = self.timing.propose;
        let tries = self.try_until_committed(command, Bytes::from(body));
        tokio::time::timeout(waited, tries).await.unwrap_or(Err(ProposeError::NoLeader { waited }))
    }

    /// Answers a call about [`Topic::Propose`].
    pub async fn answer_propose(&self, body: &[u8]) -> Bytes {
        let answer = match thalweg_wire::decode(body) {
            Ok(command) => self.append(command).await,
            Err(error) => {
                tracing::warn!(%error, "a peer proposed bytes that are no command");
                Answer::Elsewhere { leader: None }
            }
        };
        Bytes::from(thalweg_wire::encode(&answer).expect("answers are small"))
    }

    async fn try_until_committed(
        &self,
        command: Command,
        body: Bytes,
    ) -> Result<u64, ProposeError> {
        let mut hint: Option<HostId> = None;
        for attempt in 0_u32.. {
            let hinted = hint.is_some();
            let target = hint.take().or_else(|| self.target(attempt));
            let answer = match target {
                Some(host) if host == self.me => self.append(command.clone()).await,
                Some(host) => self.forward(host, body.clone()).await,
                None => Answer::Elsewhere { leader: None },
            };
            match answer {
                Answer::Committed { index } => return Ok(index),
                // One hint is followed at once; two members may each point at the other.
                Answer::Elsewhere { leader: Some(leader) } if !hinted => hint = Some(leader),
                Answer::Elsewhere { .. } => self.pause(attempt).await,
                Answer::Stopped if target == Some(self.me) => return Err(ProposeError::Stopped),
                Answer::Stopped => self.pause(attempt).await,
            }
        }
        unreachable!("attempts are not counted to an end; the caller's timeout is the end")
    }

    /// Picks whom to try: the leader this host knows, and every other time a voter in turn, since
    /// what this host knows may be long past.
    fn target(&self, attempt: u32) -> Option<HostId> {
        let known = self.raft.metrics().borrow().current_leader;
        let turn = || self.voters.iter().cycle().nth(attempt as usize / 2).copied();
        if attempt.is_multiple_of(2) { known.or_else(turn) } else { turn() }
    }

    async fn forward(&self, host: HostId, body: Bytes) -> Answer {
        let call = (self.call)(host, Topic::Propose, body);
        let answer = match tokio::time::timeout(self.patience(), call).await {
            Ok(Ok(answer)) => thalweg_wire::decode(&answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, "proposal not answered");
                return Answer::Elsewhere { leader: None };
            }
            Err(_elapsed) => return Answer::Elsewhere { leader: None },
        };
        answer.unwrap_or_else(|error| {
            tracing::warn!(%host, %error, "answer to a proposal is none");
            Answer::Elsewhere { leader: None }
        })
    }

    /// Appends to the log if this host leads, and waits until a majority has it.
    async fn append(&self, command: Command) -> Answer {
        let written = tokio::time::timeout(self.patience(), self.raft.client_write(command)).await;
        match written {
            Ok(Ok(response)) => Answer::Committed { index: response.log_id.index },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Answer::Elsewhere { leader: forward.leader_id.filter(|&it| it != self.me) }
            }
            Ok(Err(RaftError::Fatal(_))) => Answer::Stopped,
            Ok(Err(_)) | Err(_) => Answer::Elsewhere { leader: None },
        }
    }

    /// Time one try may take: a leader that lost its majority must not hold a proposal for ever.
    fn patience(&self) -> Duration {
        self.timing.lease()
    }

    /// Waits for news of the leader, at most a heartbeat and a little more. The little is drawn
    /// from host and attempt, so that hosts waiting for the same election do not return in step.
    async fn pause(&self, attempt: u32) {
        let draw = self.me.0.rotate_left(attempt) & 0xff;
        let jitter = self.timing.heartbeat.mul_f64(draw as f64 / 256.0);
        let mut leadership = self.leadership.clone();
        leadership.mark_unchanged();
        tokio::select! {
            Ok(()) = leadership.changed() => {}
            () = tokio::time::sleep(self.timing.heartbeat + jitter) => {}
        }
    }
}
