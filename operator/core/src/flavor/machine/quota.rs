//! How much of its host may a guest use? A Flavor's `quota:` keys.
//!
//! Nova reads `cpu_*`, `disk_*_sec` and `vif_*` (`nova/virt/libvirt`); `_max` and `_max_length` are those of Cinder's
//! front-end QoS, which libvirt knows as well.

use crate::{flavor::extra_specs::number, problem::Problems};

/// The most shares: `cpu.weight` of control groups version 2.
const MOST_SHARES: u32 = 10_000;
/// The longest burst, in seconds.
const LONGEST_BURST: u32 = 3_600;

/// A sustained rate a second, and what it may be for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub sustained: Option<u64>,
    /// For a while.
    pub burst: Option<u64>,
    /// For how long, in seconds; QEMU's default is one.
    pub burst_seconds: Option<u32>,
}

/// What one disk may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskQuota {
    /// Bytes that are read and written.
    pub total_bytes: Rate,
    /// Bytes that are read.
    pub read_bytes: Rate,
    /// Bytes that are written.
    pub write_bytes: Rate,
    /// Reads and writes.
    pub total_iops: Rate,
    /// Reads.
    pub read_iops: Rate,
    /// Writes.
    pub write_iops: Rate,
}

/// What one interface may do one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VifQuota {
    /// In the long run, in KiB a second.
    pub average: Option<u32>,
    /// At most, in KiB a second.
    pub peak: Option<u32>,
    /// How much at the peak, in KiB.
    pub burst: Option<u32>,
}

/// All that a Flavor bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The weight of its CPUs beside those of others.
    pub cpu_shares: Option<u32>,
    /// The period of [`cpu_quota_us`](Self::cpu_quota_us), in microseconds.
    pub cpu_period_us: Option<u32>,
    /// How long each virtual CPU may run in a period, in microseconds.
    pub cpu_quota_us: Option<u64>,
    /// Each of its disks.
    pub disk: DiskQuota,
    /// Each of its interfaces, to the guest.
    pub inbound: VifQuota,
    /// Each of its interfaces, from the guest.
    pub outbound: VifQuota,
}

impl Quota {
    /// Reads a key, without `quota:`; `None` when it is none of these.
    pub fn read(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        if let Some(name) = name.strip_prefix("disk_") {
            return self.disk.read(name, value);
        }
        if let Some(name) = name.strip_prefix("vif_") {
            let (way, name) = name.split_once('_')?;
            let quota = match way {
                "inbound" => &mut self.inbound,
                "outbound" => &mut self.outbound,
                _ => return None,
            };
            return quota.read(name, value);
        }
        Some(match name {
            "cpu_shares" => number(value, 1, MOST_SHARES).map(|shares| self.cpu_shares = Some(shares)),
            "cpu_period" => number(value, 1_000, 1_000_000).map(|period| self.cpu_period_us = Some(period)),
            // The kernel's word for as much as there is.
            "cpu_quota" if value == "-1" => Ok(()),
            "cpu_quota" => large(value, 1_000).map(|quota| self.cpu_quota_us = Some(quota)),
            _ => return None,
        })
    }

    /// What contradicts itself.
    pub fn check(&self, problems: &mut Problems) {
        self.disk.check(problems);
        self.inbound.check("inbound", problems);
        self.outbound.check("outbound", problems);
    }
}

impl DiskQuota {
    fn read(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        let (what, kind) = name.split_once("_sec")?;
        let (_, _, rate) = self.rates_mut().into_iter().find(|(name, _, _)| *name == what)?;
        Some(match kind {
            "" => large(value, 1).map(|most| rate.sustained = Some(most)),
            "_max" => large(value, 1).map(|most| rate.burst = Some(most)),
            "_max_length" => number(value, 1, LONGEST_BURST).map(|length| rate.burst_seconds = Some(length)),
            _ => return None,
        })
    }

    /// Each rate with its name, and with that of the total that it is a part of.
    fn rates_mut(&mut self) -> [(&'static str, Option<&'static str>, &mut Rate); 6] {
        [
            ("total_bytes", None, &mut self.total_bytes),
            ("read_bytes", Some("total_bytes"), &mut self.read_bytes),
            ("write_bytes", Some("total_bytes"), &mut self.write_bytes),
            ("total_iops", None, &mut self.total_iops),
            ("read_iops", Some("total_iops"), &mut self.read_iops),
            ("write_iops", Some("total_iops"), &mut self.write_iops),
        ]
    }

    fn check(mut self, problems: &mut Problems) {
        let none = Rate::default();
        let (of_bytes, of_iops) = (self.total_bytes != none, self.total_iops != none);
        for (name, total, rate) in self.rates_mut() {
            let field = |kind: &str| format!("spec.extraSpecs[quota:disk_{name}_sec{kind}]");
            let both = match total {
                Some("total_bytes") => of_bytes,
                Some(_) => of_iops,
                None => false,
            };
            if both && *rate != none {
                let message = format!(
                    "can't be bounded beside quota:disk_{}_sec: bound reads and writes together, or each",
                    total.unwrap_or_default()
                );
                problems.add(field(""), message);
            }
            match (rate.sustained, rate.burst) {
                (None, Some(_)) => {
                    problems.add(
                        field("_max"),
                        format!("is for bursts: write quota:disk_{name}_sec as well"),
                    );
                }
                (Some(sustained), Some(burst)) if burst < sustained => {
                    let message = format!("is below quota:disk_{name}_sec, {sustained}: make it larger");
                    problems.add(field("_max"), message);
                }
                _ => {}
            }
            if rate.burst.is_none() && rate.burst_seconds.is_some() {
                let message = format!("is how long a burst may be: write quota:disk_{name}_sec_max as well");
                problems.add(field("_max_length"), message);
            }
        }
    }
}

impl VifQuota {
    fn read(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        let into = match name {
            "average" => &mut self.average,
            "peak" => &mut self.peak,
            "burst" => &mut self.burst,
            _ => return None,
        };
        Some(number(value, 1, i32::MAX.unsigned_abs()).map(|number| *into = Some(number)))
    }

    fn check(self, way: &str, problems: &mut Problems) {
        let field = |name: &str| format!("spec.extraSpecs[quota:vif_{way}_{name}]");
        let average = format!("quota:vif_{way}_average");
        for (name, said) in [("peak", self.peak), ("burst", self.burst)] {
            if said.is_some() && self.average.is_none() {
                problems.add(field(name), format!("is beyond an average: write {average} as well"));
            }
        }
        if let (Some(average_kib), Some(peak)) = (self.average, self.peak)
            && peak < average_kib
        {
            let message = format!("is below {average}, {average_kib}: make it larger");
            problems.add(field("peak"), message);
        }
    }
}

/// libvirt's largest amount: what a signed number holds, less what it needs itself.
fn large(text: &str, least: u64) -> Result<u64, String> {
    const MOST: u64 = 17_592_186_044_415;
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok();
    number
        .filter(|number| plain && (least..=MOST).contains(number))
        .ok_or_else(|| format!("{text:?} is not taken: write a whole number from {least} to {MOST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Quota {
        let mut quota = Quota::default();
        for (name, value) in pairs {
            quota.read(name, value).expect(name).expect(name);
        }
        quota
    }

    fn problems(pairs: &[(&str, &str)]) -> String {
        let mut problems = Problems::default();
        read(pairs).check(&mut problems);
        problems.to_string()
    }

    #[test]
    fn each_key_bounds_what_it_names() {
        let quota = read(&[
            ("cpu_shares", "2048"),
            ("cpu_period", "20000"),
            ("cpu_quota", "10000"),
            ("disk_read_bytes_sec", "10240000"),
            ("disk_write_iops_sec", "100"),
            ("disk_write_iops_sec_max", "200"),
            ("disk_write_iops_sec_max_length", "10"),
            ("vif_inbound_average", "1000"),
            ("vif_outbound_average", "500"),
            ("vif_outbound_peak", "800"),
        ]);
        assert_eq!((quota.cpu_shares, quota.cpu_quota_us), (Some(2048), Some(10_000)));
        assert_eq!(quota.disk.read_bytes.sustained, Some(10_240_000));
        let writes = Rate {
            sustained: Some(100),
            burst: Some(200),
            burst_seconds: Some(10),
        };
        assert_eq!(quota.disk.write_iops, writes);
        assert_eq!((quota.inbound.average, quota.outbound.peak), (Some(1000), Some(800)));
        assert_eq!(read(&[("cpu_quota", "-1")]), Quota::default(), "as much as there is");
        for unknown in [
            "disk_io_limit",
            "vif_limit",
            "vif_sideways_peak",
            "cpu_limit",
            "disk_read_sec_min",
        ] {
            assert!(Quota::default().read(unknown, "1").is_none(), "{unknown}");
        }
        for (name, value) in [
            ("cpu_shares", "0"),
            ("cpu_shares", "10001"),
            ("cpu_period", "10"),
            ("cpu_quota", "-2"),
            ("disk_total_bytes_sec", "0"),
            ("disk_total_bytes_sec", "17592186044416"),
            ("vif_inbound_peak", "fast"),
        ] {
            assert!(Quota::default().read(name, value).unwrap().is_err(), "{name}={value}");
        }
    }

    #[test]
    fn what_libvirt_would_refuse_is_told_with_the_cure() {
        for (pairs, words) in [
            (
                &[("disk_total_bytes_sec", "2"), ("disk_read_bytes_sec", "1")][..],
                "[quota:disk_read_bytes_sec]: can't be bounded beside quota:disk_total_bytes_sec",
            ),
            (
                &[("disk_read_iops_sec_max", "1")],
                "write quota:disk_read_iops_sec as well",
            ),
            (
                &[("disk_read_iops_sec", "9"), ("disk_read_iops_sec_max", "1")],
                "is below quota:disk_read_iops_sec, 9",
            ),
            (
                &[("disk_read_iops_sec", "9"), ("disk_read_iops_sec_max_length", "1")],
                "write quota:disk_read_iops_sec_max as well",
            ),
            (&[("vif_inbound_burst", "1")], "write quota:vif_inbound_average as well"),
            (
                &[("vif_outbound_average", "2"), ("vif_outbound_peak", "1")],
                "is below quota:vif_outbound_average, 2",
            ),
        ] {
            let said = problems(pairs);
            assert!(said.contains(words), "{said}");
        }
        let fine = [("disk_total_bytes_sec", "1"), ("disk_read_iops_sec", "1")];
        assert_eq!(problems(&fine), "", "bytes and operations are apart");
    }
}
