//! The Truechimer daemon: configuration to wiring of the planes, privileges, signals, persistence.
//!
//! A library so that `chime` can measure and demonstrate with the same code. Start at [`run`], then [`time_plane`].

mod appended_file;
pub mod broadcasts;
pub mod card_clocks;
pub mod chrony_host;
pub mod chronyd;
pub mod cli;
pub mod clock_shell;
pub mod cookie_ring;
mod daemon;
pub mod desks;
mod detach;
mod directory_claim;
pub mod event_log;
pub mod exchanges;
pub mod fast_path;
mod glob;
pub mod ke_client;
pub mod ke_connection;
pub mod ke_server;
pub mod leap_table;
mod left_slew;
pub mod load;
pub mod log_limit;
pub mod logging;
pub mod mode6_host;
pub mod ntp_daemon;
pub mod ntpd;
pub mod observation_host;
pub mod once;
pub mod oscillator;
mod plain_file;
pub mod predecessor;
pub mod publish;
pub mod real_time_clock;
pub mod reference_clocks;
pub mod restart_only;
pub mod rivals;
pub mod runtime_access;
mod runtime_config;
pub mod sample_history;
pub mod service_manager;
pub mod serving;
pub mod source_files;
pub mod state;
pub mod state_files;
pub mod store;
pub mod store_writer;
pub mod tally;
pub mod tcp_race;
pub mod time_plane;
pub mod trust;
pub mod urgency;
pub mod wiring;

pub use daemon::{EXIT_CONFIGURATION, EXIT_FAILURE, EXIT_NO_PERMISSION, run};
