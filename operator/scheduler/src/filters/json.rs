//! JsonFilter: the expression of the hint `query` is true of the host.
//!
//! Nova: `nova/scheduler/filters/json_filter.py`. See [`Query`](crate::Query) for the language and its bounds.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate, Query};

/// See the module.
#[derive(Debug)]
pub(super) struct JsonFilter;

impl Filter for JsonFilter {
    fn name(&self) -> &'static str {
        "JsonFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::ALL
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        query(ask).is_some()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        match query(ask) {
            Some(query) if !query.holds(host) => Err(Why::PLAIN),
            _ => Ok(()),
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        if let Some(query) = query(ask) {
            query.keep(hosts, left);
        }
    }
}

fn query<'a>(ask: &Ask<'a>) -> Option<&'a Query> {
    ask.demands()?.hints.query.as_ref()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use crate::fixtures::{demanding, host, verdict};
    use crate::{Demands, Hints, Host, Query, Request};

    const NAME: &str = "JsonFilter";

    fn asking(query: &str) -> Request {
        demanding(Demands {
            hints: Hints {
                query: Some(Query::parse(query).unwrap()),
                ..Hints::default()
            },
            ..Demands::default()
        })
    }

    /// 8 threads, 16 GiB, 100 GiB, `node-1`.
    fn judge(query: &str) -> bool {
        let host = Host {
            address: Some(IpAddr::from([10, 0, 0, 7])),
            metrics: BTreeMap::from([("cpu.percent".to_owned(), 30.0)]),
            labels: BTreeMap::from([("example.com/rack".to_owned(), "r1".to_owned())]),
            ..host()
        };
        verdict(NAME, host, &asking(query)).is_ok()
    }

    #[test]
    fn every_operator_of_nova_s_tests() {
        // After nova/tests/unit/scheduler/filters/test_json_filters.py.
        for (query, expected) in [
            (
                r#"["and", [">=", "$free_ram_mb", 16384], [">=", "$free_disk_mb", 102400]]"#,
                true,
            ),
            (
                r#"["and", [">=", "$free_ram_mb", 16385], [">=", "$free_disk_mb", 102400]]"#,
                false,
            ),
            (r#"["or", ["<", "$free_ram_mb", 30], [">", "$vcpus_total", 7]]"#, true),
            (r#"["or", ["<", "$free_ram_mb", 30], [">", "$vcpus_total", 8]]"#, false),
            (r#"["not", ["=", "$vcpus_total", 8]]"#, false),
            (r#"["not", ["=", "$vcpus_total", 9]]"#, true),
            (r#"["and", ["not", ["=", "$vcpus_total", 8]], ["=", 1, 1]]"#, false),
            (r#"["=", "$vcpus_total", 8, 8, 8]"#, true),
            (r#"["=", "$vcpus_total", 8, 8, 9]"#, false),
            (r#"["<", 1, 2, 3]"#, true),
            (r#"["<=", 2, 2, 1]"#, false),
            (r#"["in", "$hypervisor_hostname", "node-1", "node-2"]"#, true),
            (r#"["in", "$hypervisor_hostname", "node-2", "node-3"]"#, false),
            (r#"["in", "$vcpus_total", 4, 8]"#, true),
            (r#"["=", "$host_ip", "10.0.0.7"]"#, true),
            (r#"["<", "$metrics.cpu.percent", 50]"#, true),
            (r#"["=", "$labels.example.com/rack", "r1"]"#, true),
            (r#"["=", true, true]"#, true),
            ("[]", true),
            (r#"["and"]"#, true),
            (r#"["or"]"#, false),
        ] {
            assert_eq!(judge(query), expected, "{query}");
        }
    }

    #[test]
    fn what_the_host_does_not_say_is_left_out() {
        assert!(
            !judge(r#"["=", "$metrics.gpu.percent", 30]"#),
            "nothing is left to compare with"
        );
        assert!(judge(r#"["<", 1, "$metrics.gpu.percent", 2]"#));
    }

    #[test]
    fn a_number_never_compares_with_a_text() {
        assert!(!judge(r#"["=", "$vcpus_total", "8"]"#));
        assert!(!judge(r#"["<", "$hypervisor_hostname", 8]"#));
    }
}
