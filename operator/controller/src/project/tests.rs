use k8s_openapi::api::{core::v1::Namespace, rbac::v1::RoleBinding};
use serde_json::json;
use virga_crds::{Instance, Project, ProjectMember, ProjectRole, ProjectSpec, SubjectKind, labels};

use crate::world::{NAMESPACE, World, names};

fn is_ready(project: &Project) -> bool {
    let status = project.status.as_ref();
    status.is_some_and(|status| {
        status
            .conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    })
}

fn project(world: &World) {
    let member = |name: &str, role| ProjectMember {
        kind: SubjectKind::Group,
        name: name.into(),
        role,
    };
    let members = vec![
        member("devs", ProjectRole::Member),
        member("audit", ProjectRole::Reader),
    ];
    world.api.create(&Project::new(
        NAMESPACE,
        ProjectSpec {
            members,
            ..ProjectSpec::default()
        },
    ));
}

#[tokio::test(start_paused = true)]
async fn a_project_has_a_namespace_and_bindings_and_leaves_when_it_is_empty() {
    let world = World::start().await;
    project(&world);
    world.settle().await;
    assert_eq!(world.ready::<Project>(None, NAMESPACE).0, "True/AsSpecified");
    let namespace = world.api.read::<Namespace>(None, NAMESPACE).unwrap();
    assert_eq!(
        namespace
            .metadata
            .labels
            .unwrap()
            .get(labels::PROJECT)
            .map(String::as_str),
        Some(NAMESPACE)
    );
    assert_eq!(
        names(&world.api.list::<RoleBinding>()),
        ["virga-member", "virga-reader"]
    );

    let members = json!({"spec": {"members": [{"kind": "Group", "name": "devs", "role": "member"}]}});
    world.api.merge::<Project>(None, NAMESPACE, members);
    world.settle().await;
    assert_eq!(names(&world.api.list::<RoleBinding>()), ["virga-member"]);

    world.instance("web-1", None, |_| {});
    world.settle().await;
    world.api.delete::<Project>(None, NAMESPACE);
    world.settle().await;
    let (ready, message) = world.ready::<Project>(None, NAMESPACE);
    assert_eq!(ready, "False/InUse");
    assert!(message.contains("still has 1 Instances (web-1)"), "{message}");

    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world
        .api
        .await_condition::<Project>(None, NAMESPACE, |project| project.is_none())
        .await;
    assert!(
        world.api.read::<Namespace>(None, NAMESPACE).is_none(),
        "the project made it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_was_there_is_only_taken_over_when_it_is_marked_and_given_back_at_the_end() {
    let world = World::start().await;
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(NAMESPACE.into());
    world.api.create(&namespace);
    project(&world);
    world.settle().await;
    assert_eq!(world.ready::<Project>(None, NAMESPACE).0, "False/NamespaceConflict");

    let mark = json!({"metadata": {"labels": {labels::PROJECT: NAMESPACE}}});
    world.api.merge::<Namespace>(None, NAMESPACE, mark);
    world
        .api
        .await_condition::<Project>(None, NAMESPACE, |project| project.is_some_and(is_ready))
        .await;
    assert_eq!(world.ready::<Project>(None, NAMESPACE).0, "True/AsSpecified");

    world.api.delete::<Project>(None, NAMESPACE);
    world
        .api
        .await_condition::<Project>(None, NAMESPACE, |project| project.is_none())
        .await;
    let namespace = world.api.read::<Namespace>(None, NAMESPACE).unwrap();
    assert_eq!(namespace.metadata.labels.unwrap_or_default().get(labels::PROJECT), None);
    assert!(world.api.list::<RoleBinding>().is_empty());
}
