//! Conversations: the whole engine against servers made by hand, on a made-up clock.

mod address_rights;
mod certificates;
mod control;
mod establishing;
mod interleaved;
mod ladder;
mod liars;
mod malformed;
mod nts;
mod plain;
mod pools;
mod properties;
mod reference_clocks;
mod restart;
mod symmetric;
mod world;
