//! Why a run cannot begin or cannot go on.

/// What is wrong with a scenario, or what the artifact's model has no answer to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HelixError {
    /// Nothing to run on, or nothing to do.
    #[error("the scenario has no {what}; add at least one")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// A number that cannot be meant.
    #[error("{what} {at} is {value}: give {expected}")]
    Number {
        /// What it says.
        what: &'static str,
        /// Index of the host, link or query it says it of.
        at: usize,
        /// The number.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A host of a machine type that the scenario does not have, or that lists no limits.
    #[error(
        "host {host} is of machine type {device}, which is not there or lists no limits of a step; \
         give prefill_requests_max and decode_requests_max"
    )]
    Device {
        /// Index of the host.
        host: usize,
        /// Index of the machine type.
        device: usize,
    },
    /// A host holds layers that the model does not have.
    #[error("host {host} holds layers up to {end} of a model of {layers}")]
    Layers {
        /// Index of the host.
        host: usize,
        /// One past its last layer.
        end: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// A link over which no layer would be computed next.
    #[error(
        "link {link} leads from layer {end} to a host that holds {first}..{last}; remove it or \
         change the layers"
    )]
    Link {
        /// Index of the link.
        link: usize,
        /// The layer to be computed next at its near end.
        end: u32,
        /// First layer at its far end.
        first: u32,
        /// One past the last layer at its far end.
        last: u32,
    },
    /// A host that queries enter and cannot leave, or a gateway without links.
    #[error("no link leaves {from}; add one or remove those that lead there")]
    DeadEnd {
        /// The host's index, or the gateway.
        from: String,
    },
    /// Flows for another number of links.
    #[error("{flows} flows for {links} links; give one for each, zero where there is none")]
    Flows {
        /// How many there are.
        flows: usize,
        /// How many there should be.
        links: usize,
    },
    /// The recorded lengths are used up.
    #[error(
        "all {lengths} recorded lengths are used up at {at_seconds} s; record more or end sooner"
    )]
    Lengths {
        /// How many there were.
        lengths: usize,
        /// When the next was needed.
        at_seconds: f64,
    },
    /// An iteration that fits into no step of a host it was sent to.
    #[error(
        "query {query} brings {tokens} tokens to host {host}, whose steps hold {max}; leave it out"
    )]
    TooLong {
        /// Index of the query.
        query: usize,
        /// Index of the host.
        host: usize,
        /// Tokens of its prompt, or before the token to decode.
        tokens: u64,
        /// Tokens that a step holds.
        max: u64,
    },
    /// A host's KV memory is full. The artifact has no preemption and ends here.
    #[error(
        "host {host} needs {needed} token-layers of KV at {at_seconds} s and has {capacity}; send \
         less at once"
    )]
    KvFull {
        /// Index of the host.
        host: usize,
        /// Token-layers needed.
        needed: u64,
        /// Token-layers there are.
        capacity: u64,
        /// When.
        at_seconds: f64,
    },
    /// No host may take a query, and it must not be rejected.
    #[error(
        "nobody may take query {query} at {at_seconds} s; send less at once or let it be rejected"
    )]
    NoRoute {
        /// Index of the query.
        query: usize,
        /// When.
        at_seconds: f64,
    },
    /// A transmission needs a larger share of a link than is free.
    #[error(
        "link {link} is to carry {wanted} bytes/s more and has {free} free; flows beyond a network \
         card's rate lead to this"
    )]
    Share {
        /// Index of the link.
        link: usize,
        /// Share needed.
        wanted: f64,
        /// Share there is.
        free: f64,
    },
}
