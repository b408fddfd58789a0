//! The configuration bound: what covers of single layers allow, whatever the network.
