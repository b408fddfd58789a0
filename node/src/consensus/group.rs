//! The consensus group in the library's terms.

use thalweg_wire::{Command, HostId};

openraft::declare_raft_types!(
    /// Commands replicated between hosts. Members carry no address: calls go by host.
    pub(super) Group:
        D = Command,
        R = (),
        NodeId = HostId,
        Node = openraft::EmptyNode,
        SnapshotData = Vec<u8>,
);

pub(super) type Entry = openraft::Entry<Group>;
pub(super) type LogId = openraft::LogId<HostId>;
pub(super) type Vote = openraft::Vote<HostId>;
pub(super) type Membership = openraft::StoredMembership<HostId, openraft::EmptyNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<HostId, openraft::EmptyNode>;
pub(super) type Metrics = openraft::RaftMetrics<HostId, openraft::EmptyNode>;
pub(super) type Raft = openraft::Raft<Group>;
