//! What other daemons reached: measured figures, kept as data.
//!
//! Origin: chrony 4.8 (development version after the release) and ntpd-rs 1.9.0 (2.0-alpha gave the same) with their
//! default settings inside clknetsim, in the world that [`super`] describes; medians of 5 to 11 seeds. The linear bound
//! is the steady state of a Kalman filter that knows the wander and the variance of the measurements (half of the squared
//! jitter) and corrects at once: the best that an estimator linear in the offsets can do.

/// One row of the table: seconds of RMS time error, intervals in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Mean queueing delay on each direction, seconds.
    pub(super) jitter: f64,
    /// Random walk of the frequency, s per s in each second.
    pub(super) wander: f64,
    /// Polling every 16 s.
    pub(super) at_16: Figures,
    /// Polling every 64 s.
    pub(super) at_64: Figures,
    /// Default polling: 64 to 1024 s for chrony, 16 to 1024 s for ntpd-rs.
    pub(super) default: Figures,
    /// chrony's error with three servers at 16 s.
    pub(super) three_servers: f64,
    /// chrony's mean interval with default polling.
    pub(super) interval: f64,
}

/// The error of each where it was measured; seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) chrony: f64,
    pub(super) ntpd_rs: Option<f64>,
    pub(super) linear_bound: Option<f64>,
}

/// A row from the columns of the published table, in its order.
const fn row(jitter: f64, wander: f64, at: [f64; 9]) -> Row {
    let [chrony_16, chrony_3, rs_16, bound_16, chrony_64, bound_64, chrony, interval, rs] = at;
    Row {
        jitter,
        wander,
        at_16: Figures { chrony: chrony_16, ntpd_rs: Some(rs_16), linear_bound: Some(bound_16) },
        at_64: Figures { chrony: chrony_64, ntpd_rs: None, linear_bound: Some(bound_64) },
        default: Figures { chrony, ntpd_rs: Some(rs), linear_bound: None },
        three_servers: chrony_3,
        interval,
    }
}

/// Jitter, wander; then chrony at 16 s, chrony with three servers at 16 s, ntpd-rs at 16 s, linear bound at 16 s, chrony
/// at 64 s, linear bound at 64 s, chrony by default and its interval, ntpd-rs by default.
#[rustfmt::skip]
pub(super) const ROWS: [Row; 20] = [
    row(1e-6, 1e-10, [2.7e-7, 2.5e-7, 5.9e-7, 2.6e-7, 5.5e-7, 4.4e-7, 1.8e-6, 282.0, 5.9e-7]),
    row(1e-6, 1e-9, [6.1e-7, 6.5e-7, 6.4e-7, 4.6e-7, 1.3e-6, 8.2e-7, 1.8e-6, 69.0, 6.4e-7]),
    row(1e-6, 1e-8, [1.6e-6, 2.1e-6, 1.2e-6, 8.9e-7, 1.1e-5, 2.5e-6, 1.1e-5, 65.0, 1.2e-6]),
    row(1e-6, 1e-7, [1.4e-5, 1.8e-5, 4.0e-6, 3.0e-6, 1.1e-4, 2.2e-5, 1.1e-4, 65.0, 4.0e-6]),
    row(1e-5, 1e-10, [1.1e-6, 7.2e-7, 3.8e-6, 1.5e-6, 2.3e-6, 2.5e-6, 1.0e-5, 832.0, 4.9e-6]),
    row(1e-5, 1e-9, [2.7e-6, 2.5e-6, 3.9e-6, 2.6e-6, 5.6e-6, 4.4e-6, 2.0e-5, 279.0, 5.0e-6]),
    row(1e-5, 1e-8, [6.0e-6, 6.4e-6, 6.4e-6, 4.6e-6, 1.4e-5, 8.2e-6, 2.2e-5, 72.0, 8.0e-6]),
    row(1e-5, 1e-7, [1.6e-5, 2.1e-5, 1.2e-5, 8.9e-6, 1.1e-4, 2.5e-5, 1.1e-4, 65.0, 1.2e-5]),
    row(1e-4, 1e-10, [9.8e-6, 5.9e-6, 2.2e-5, 8.2e-6, 1.0e-5, 1.4e-5, 6.0e-5, 845.0, 4.8e-5]),
    row(1e-4, 1e-9, [1.1e-5, 7.3e-6, 2.2e-5, 1.5e-5, 2.3e-5, 2.5e-5, 1.0e-4, 832.0, 4.9e-5]),
    row(1e-4, 1e-8, [2.7e-5, 2.5e-5, 3.2e-5, 2.6e-5, 5.6e-5, 4.4e-5, 1.9e-4, 273.0, 7.5e-5]),
    row(1e-4, 1e-7, [6.1e-5, 6.5e-5, 6.5e-5, 4.6e-5, 1.4e-4, 8.2e-5, 2.0e-4, 70.0, 8.6e-5]),
    row(1e-3, 1e-10, [9.6e-5, 5.8e-5, 1.3e-4, 4.6e-5, 1.0e-4, 7.8e-5, 1.6e-4, 845.0, 4.1e-4]),
    row(1e-3, 1e-9, [9.7e-5, 5.8e-5, 1.3e-4, 8.2e-5, 1.0e-4, 1.4e-4, 6.0e-4, 845.0, 3.9e-4]),
    row(1e-3, 1e-8, [1.1e-4, 7.1e-5, 1.7e-4, 1.5e-4, 2.3e-4, 2.5e-4, 9.6e-4, 666.0, 6.3e-4]),
    row(1e-3, 1e-7, [2.7e-4, 2.5e-4, 3.7e-4, 2.6e-4, 5.6e-4, 4.4e-4, 1.2e-3, 156.0, 9.9e-4]),
    row(1e-2, 1e-10, [6.2e-4, 3.5e-4, 7.4e-4, 2.6e-4, 6.9e-4, 4.4e-4, 7.4e-4, 836.0, 3.1e-3]),
    row(1e-2, 1e-9, [6.2e-4, 3.5e-4, 7.6e-4, 4.6e-4, 6.8e-4, 7.8e-4, 1.3e-3, 835.0, 3.3e-3]),
    row(1e-2, 1e-8, [6.2e-4, 3.5e-4, 9.8e-4, 8.2e-4, 7.3e-4, 1.4e-3, 4.5e-3, 716.0, 4.6e-3]),
    row(1e-2, 1e-7, [7.6e-4, 5.5e-4, 2.4e-3, 1.5e-3, 2.1e-3, 2.5e-3, 6.7e-3, 286.0, 1.4e-2]),
];

/// A world with queues on one direction only, or with loss; base delay 1 ms, wander 1e-9.
#[derive(Clone, Copy, Debug)]
pub(super) struct Other {
    pub(super) jitter: f64,
    /// Of each datagram.
    pub(super) loss: f64,
    /// Whether only one direction has queues.
    pub(super) one_sided: bool,
    /// chrony every 16 s.
    pub(super) chrony_16: f64,
    /// chrony by default.
    pub(super) chrony: f64,
    /// ntpd-rs by default.
    pub(super) ntpd_rs: f64,
}

const fn one_sided(jitter: f64, [chrony_16, chrony, ntpd_rs]: [f64; 3]) -> Other {
    Other { jitter, loss: 0.0, one_sided: true, chrony_16, chrony, ntpd_rs }
}

const fn lossy(jitter: f64, loss: f64, [chrony_16, chrony, ntpd_rs]: [f64; 3]) -> Other {
    Other { jitter, loss, one_sided: false, chrony_16, chrony, ntpd_rs }
}

/// Worlds beside the table.
pub(super) const OTHERS: [Other; 8] = [
    one_sided(1e-5, [5.2e-7, 1.3e-6, 6.4e-6]),
    one_sided(1e-4, [2.3e-6, 4.4e-6, 6.7e-5]),
    one_sided(1e-3, [8.8e-6, 1.9e-5, 6.2e-4]),
    one_sided(1e-2, [2.7e-5, 1.8e-4, 5.2e-3]),
    lossy(1e-5, 0.2, [3.5e-6, 1.2e-4, 5.5e-6]),
    lossy(1e-5, 0.5, [6.4e-6, 6.2e-4, 8.5e-5]),
    lossy(1e-4, 0.2, [1.3e-5, 1.8e-4, 5.5e-5]),
    lossy(1e-4, 0.5, [2.3e-5, 6.3e-4, 6.2e-4]),
];
