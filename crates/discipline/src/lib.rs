//! Clock discipline: filter, selection, combining, steering.
