use std::collections::HashSet;

use virga_crds::{HostAggregateSpec, Hypervisor, LabelSelector};

use crate::selector::selects;

/// Who is in an aggregate.
#[derive(Clone, Debug)]
pub(super) struct Members {
    names: HashSet<String>,
    selector: Option<LabelSelector>,
}

impl Members {
    pub(super) fn of(aggregate: &HostAggregateSpec) -> Self {
        Self {
            names: aggregate.hypervisors.iter().flatten().cloned().collect(),
            selector: aggregate.selector.clone(),
        }
    }

    pub(super) fn has(&self, host: &Hypervisor) -> bool {
        let name = host.metadata.name.as_ref();
        name.is_some_and(|name| self.names.contains(name))
            || self
                .selector
                .as_ref()
                .is_some_and(|selector| selects(selector, host.metadata.labels.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{HypervisorSpec, LabelOperator, LabelRequirement};

    use super::*;

    fn has(aggregate: &HostAggregateSpec, host: &Hypervisor) -> bool {
        Members::of(aggregate).has(host)
    }

    fn host(labels: &[(&str, &str)]) -> Hypervisor {
        let mut host = Hypervisor::new("node-1", HypervisorSpec::default());
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        host.metadata.labels = Some(labels.collect());
        host
    }

    fn by_label(key: &str, operator: LabelOperator, values: &[&str]) -> HostAggregateSpec {
        let requirement = LabelRequirement {
            key: key.into(),
            operator,
            values: values.iter().map(ToString::to_string).collect(),
        };
        let selector = LabelSelector {
            match_expressions: vec![requirement],
            ..LabelSelector::default()
        };
        HostAggregateSpec {
            selector: Some(selector),
            ..HostAggregateSpec::default()
        }
    }

    #[test]
    fn hosts_are_chosen_by_name() {
        let named = |name: &str| HostAggregateSpec {
            hypervisors: Some(vec![name.into()]),
            ..HostAggregateSpec::default()
        };
        assert!(has(&named("node-1"), &host(&[])) && !has(&named("node-2"), &host(&[])));
        assert!(
            !has(&HostAggregateSpec::default(), &host(&[])),
            "neither names nor a selector"
        );
    }

    #[test]
    fn hosts_are_chosen_by_their_labels() {
        let (ssd, none) = (host(&[("disk", "ssd")]), host(&[]));
        for (operator, values, of_ssd, of_none) in [
            (LabelOperator::In, &["ssd", "nvme"][..], true, false),
            (LabelOperator::NotIn, &["ssd"], false, true),
            (LabelOperator::Exists, &[], true, false),
            (LabelOperator::DoesNotExist, &[], false, true),
        ] {
            let aggregate = by_label("disk", operator, values);
            assert_eq!(
                (has(&aggregate, &ssd), has(&aggregate, &none)),
                (of_ssd, of_none),
                "{operator:?}"
            );
        }
        let mut both = by_label("disk", LabelOperator::Exists, &[]);
        let selector = both.selector.get_or_insert_default();
        selector.match_labels.insert("rack".into(), "r1".into());
        assert!(!has(&both, &ssd) && has(&both, &host(&[("disk", "ssd"), ("rack", "r1")])));
        let all = HostAggregateSpec {
            selector: Some(LabelSelector::default()),
            ..HostAggregateSpec::default()
        };
        assert!(has(&all, &none), "an empty selector takes all");
    }
}
