//! Equal stages, as a deployment without a planner would make them.
