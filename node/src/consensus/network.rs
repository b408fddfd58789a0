//! What members of the group say to each other, over calls that the host carries.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{EmptyNode, OptionalSend};
use serde::{Deserialize, Serialize};
use thalweg_wire::HostId;

use super::group::{Group, Raft, SnapshotMeta, Vote};
use super::{Call, Topic, Unanswered};

#[derive(Deserialize, Serialize)]
#[serde(bound = "")]
enum Request {
    Vote(VoteRequest<HostId>),
    Append(AppendEntriesRequest<Group>),
    Snapshot { vote: Vote, meta: SnapshotMeta, state: Vec<u8> },
}

#[derive(Deserialize, Serialize)]
enum Reply {
    Vote(VoteResponse<HostId>),
    Append(AppendEntriesResponse<HostId>),
    Snapshot(SnapshotResponse<HostId>),
    Refused { reason: String },
}

/// Makes the network's end for each member.
pub(super) struct Network {
    pub call: Call,
    pub heartbeat: Duration,
}

impl RaftNetworkFactory<Group> for Network {
    type Network = Member;

    async fn new_client(&mut self, target: HostId, _node: &EmptyNode) -> Member {
        Member { target, call: self.call.clone(), heartbeat: self.heartbeat }
    }
}

/// Speaks to one member.
pub(super) struct Member {
    target: HostId,
    call: Call,
    heartbeat: Duration,
}

impl Member {
    /// Asks and awaits the reply. Any failure counts as unreachable, so that the library pauses
    /// before it tries again.
    async fn ask(&self, request: &Request) -> Result<Reply, Unreachable> {
        let body = thalweg_wire::encode(request).map_err(|error| Unreachable::new(&error))?;
        let answer = (self.call)(self.target, Topic::Raft, Bytes::from(body));
        let answer = answer.await.map_err(|error| Unreachable::new(&error))?;
        thalweg_wire::decode(&answer).map_err(|error| Unreachable::new(&error))
    }

    /// A reply that does not fit the request.
    fn odd(&self, reply: Reply) -> Unreachable {
        let reason = match reply {
            Reply::Refused { reason } => reason,
            _ => String::from("the reply is of another kind than the request"),
        };
        Unreachable::new(&Unanswered { host: self.target, reason })
    }
}

type CallResult<T> = Result<T, RPCError<HostId, EmptyNode, RaftError<HostId>>>;

impl RaftNetwork<Group> for Member {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Group>,
        _option: RPCOption,
    ) -> CallResult<AppendEntriesResponse<HostId>> {
        match self.ask(&Request::Append(rpc)).await? {
            Reply::Append(reply) => Ok(reply),
            reply => Err(self.odd(reply).into()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<HostId>,
        _option: RPCOption,
    ) -> CallResult<VoteResponse<HostId>> {
        match self.ask(&Request::Vote(rpc)).await? {
            Reply::Vote(reply) => Ok(reply),
            reply => Err(self.odd(reply).into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Group>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<HostId>, StreamingError<Group, Fatal<HostId>>> {
        let request = Request::Snapshot { vote, meta: snapshot.meta, state: *snapshot.snapshot };
        let reply = tokio::select! {
            closed = cancel => return Err(closed.into()),
            reply = tokio::time::timeout(option.hard_ttl(), self.ask(&request)) => reply,
        };
        match reply.map_err(|elapsed| Unreachable::new(&elapsed))?? {
            Reply::Snapshot(reply) => Ok(reply),
            reply => Err(self.odd(reply).into()),
        }
    }

    /// A constant pause of one heartbeat: a voter that comes back must hear of the leader before
    /// it stands itself.
    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.heartbeat))
    }
}

/// Answers what another member's [`Member::ask`] sent.
pub(super) async fn answer(raft: &Raft, body: &[u8]) -> Bytes {
    let reply = match thalweg_wire::decode(body) {
        Ok(request) => reply(raft, request).await,
        Err(error) => Reply::Refused { reason: error.to_string() },
    };
    Bytes::from(thalweg_wire::encode(&reply).expect("replies are small"))
}

async fn reply(raft: &Raft, request: Request) -> Reply {
    let refused = |reason| Reply::Refused { reason };
    match request {
        Request::Vote(rpc) => match raft.vote(rpc).await {
            Ok(reply) => Reply::Vote(reply),
            Err(error) => refused(error.to_string()),
        },
        Request::Append(rpc) => match raft.append_entries(rpc).await {
            Ok(reply) => Reply::Append(reply),
            Err(error) => refused(error.to_string()),
        },
        Request::Snapshot { vote, meta, state } => {
            let snapshot = Snapshot { meta, snapshot: Box::new(state) };
            match raft.install_full_snapshot(vote, snapshot).await {
                Ok(reply) => Reply::Snapshot(reply),
                Err(error) => refused(error.to_string()),
            }
        }
    }
}
