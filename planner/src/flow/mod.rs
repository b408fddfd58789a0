//! Flows of a placement: exact maximum, least latency, shared capacities, minimum cut in words.
