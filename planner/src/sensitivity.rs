//! How much of a plan's flow survives errors of measurement, slow links and losses.
