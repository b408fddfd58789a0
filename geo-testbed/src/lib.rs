//! WAN rig: network namespaces with delays, driving the real binary. Not yet: the rig arrives with
//! the first scenarios; this crate holds its place in the layout.
