//! What workers count, and how others read it.

use chime_server::{ClientRecord, ServerCounters};
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the serving plane did since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServingStats {
    /// Requests by what became of them.
    pub requests: ServerCounters,
    /// Requests with a timestamp made by the kernel; the others have the time at which a worker saw them.
    pub kernel_timestamps: u64,
    /// Requests longer than any that is answered.
    pub oversized: u64,
    /// Answers that the kernel refused to send.
    pub send_failures: u64,
    /// Clients that were forgotten to make room for others.
    pub clients_replaced: u64,
    /// Transmit stamps of the kernel that answers in interleaved mode were made of.
    pub transmit_stamps: u64,
    /// Of the requests with a timestamp of the kernel or a card, those with one of a card.
    pub card_timestamps: u64,
    /// Of the transmit stamps, those of a card.
    pub card_transmit_stamps: u64,
    /// Answers that went past the sockets, as their requests came.
    pub frames_answered: u64,
    /// Frames that came past the sockets and were no requests to us in good order, or for whose answers was no room.
    pub frames_dropped: u64,
}

impl Add for ServingStats {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.requests.add(&other.requests);
        self.kernel_timestamps += other.kernel_timestamps;
        self.oversized += other.oversized;
        self.send_failures += other.send_failures;
        self.clients_replaced += other.clients_replaced;
        self.transmit_stamps += other.transmit_stamps;
        self.card_timestamps += other.card_timestamps;
        self.card_transmit_stamps += other.card_transmit_stamps;
        self.frames_answered += other.frames_answered;
        self.frames_dropped += other.frames_dropped;
        self
    }
}

/// One worker's numbers as others see them. Only the worker writes, after each batch; a reader may see one number of
/// this batch and another of the last.
#[derive(Debug)]
pub(super) struct WorkerCounters {
    requests: [AtomicU64; ServerCounters::LENGTH],
    others: [AtomicU64; 9],
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self { requests: [const { AtomicU64::new(0) }; _], others: [const { AtomicU64::new(0) }; _] }
    }
}

impl WorkerCounters {
    pub(super) fn write(&self, stats: &ServingStats) {
        let others = [
            stats.kernel_timestamps,
            stats.oversized,
            stats.send_failures,
            stats.clients_replaced,
            stats.transmit_stamps,
            stats.card_timestamps,
            stats.card_transmit_stamps,
            stats.frames_answered,
            stats.frames_dropped,
        ];
        let requests = self.requests.iter().zip(stats.requests.to_array());
        for (counter, value) in requests.chain(self.others.iter().zip(others)) {
            counter.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> ServingStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [
            kernel_timestamps,
            oversized,
            send_failures,
            clients_replaced,
            transmit_stamps,
            card_timestamps,
            card_transmit_stamps,
            frames_answered,
            frames_dropped,
        ] = self.others.each_ref().map(read);
        let requests = ServerCounters::from_array(&self.requests.each_ref().map(read));
        ServingStats {
            requests,
            kernel_timestamps,
            oversized,
            send_failures,
            clients_replaced,
            transmit_stamps,
            card_timestamps,
            card_transmit_stamps,
            frames_answered,
            frames_dropped,
        }
    }
}

/// Makes one record of those that several workers or listeners have of one address; in the order of addresses. Counts
/// are summed, and intervals are those of whoever saw the client last.
#[must_use]
pub fn merge_clients(mut records: Vec<ClientRecord>) -> Vec<ClientRecord> {
    records.sort_by_key(|record| (record.address, record.last));
    records.dedup_by(|later, kept| {
        let same = later.address == kept.address;
        if same {
            let (hits, drops) =
                (kept.hits.saturating_add(later.hits), kept.drops.saturating_add(later.drops));
            *kept = ClientRecord { hits, drops, ..*later };
        }
        same
    });
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::MonoTime;

    #[test]
    fn records_of_one_address_become_one() {
        let record = |address: [u8; 4], hits, last| ClientRecord {
            address: address.into(),
            hits,
            drops: 1,
            interval_log2: Some(f32::from(u8::try_from(hits).unwrap_or(0))),
            dropped_interval_log2: None,
            last: MonoTime::from_nanos(last),
        };
        let (one, two) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let merged =
            merge_clients(vec![record(two, 7, 5), record(one, 1, 9), record(one, 2, 3), record(one, 4, 6)]);
        assert_eq!(merged.len(), 2);
        assert_eq!((merged[0].hits, merged[0].drops, merged[0].interval_log2), (7, 3, Some(1.0)));
        assert_eq!((merged[0].last, merged[1].hits), (MonoTime::from_nanos(9), 7));
    }

    #[test]
    fn what_a_worker_writes_is_read() {
        let counters = WorkerCounters::default();
        assert_eq!(counters.read(), ServingStats::default());
        let mut stats = ServingStats {
            kernel_timestamps: 1,
            oversized: 2,
            card_transmit_stamps: 3,
            frames_dropped: 4,
            ..Default::default()
        };
        stats.requests.received = 9;
        counters.write(&stats);
        assert_eq!(counters.read() + counters.read(), stats + stats);
    }
}
