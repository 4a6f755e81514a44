//! The brain of a time client: associations, polling, policy.
