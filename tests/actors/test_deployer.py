"""The deployer, pure: replicas, reports, routes, and their order in a rolling update."""

from __future__ import annotations

from typing import Any

from actors import deployer
from actors.deployer import ApplyRoutes, ReplicasListed, RoutesApplied, Services, StartReplica, StopReplica, WantedBackend, replica_name
from actors.role import Call, Send, Started
from core.endpoints import (
    DeploymentDeleted,
    DeploymentFailed,
    DeploymentReady,
    DeploymentRequested,
    DeploymentSpec,
    EndpointCreated,
    EndpointDeleted,
    EndpointKeyRegenerated,
    FailDeployment,
    ReplicaLost,
    ReplicaReady,
    ReportReplicaLost,
    ReportReplicaReady,
    TrafficSet,
)
from core.environments import EnvironmentSpec
from core.events import Event
from core.ports import ReplicaStatus
from core.workspaces import WorkspaceCreated
from tests.actors.world import HOME, MORNING, Recorder

ROLE = deployer.role(drain_seconds=10)
E, D = "digits", "blue"


def spec(version: int = 1, instances: int = 1) -> DeploymentSpec:
    return DeploymentSpec(
        model="digits", model_version=version, model_manifest=f"m{version}", code="c", scoring_script="score.py",
        environment=EnvironmentSpec(), instance_count=instances,
    )


class Play:
    """A deployer that is told events and signals, and asked what it wants."""

    def __init__(self) -> None:
        self.record, self.state, self.listed = Recorder(), ROLE.initial, dict[str, ReplicaStatus]()
        self.tell(WorkspaceCreated(workspace=HOME, name="team", owner="u-1"), stream=f"workspace/{HOME}")
        self.tell(EndpointCreated(endpoint=E, primary_key="p1", secondary_key="s1"))

    def tell(self, *events: Event, stream: str = f"endpoint/{E}") -> None:
        for event in events:
            self.state = ROLE.evolve(self.state, self.record(stream, event))

    def see(self, *statuses: tuple[str, int, str]) -> None:
        """What runs: (replica, revision, phase)."""
        self.listed = {name: status(name, revision, phase) for name, revision, phase in statuses}
        self.signal(ReplicasListed(tuple(self.listed.values())))

    def signal(self, signal: object) -> None:
        self.state = ROLE.observe(self.state, signal)

    def wants(self) -> list[Any]:
        return [wish.command if isinstance(wish, Send) else wish.action for wish in ROLE.react(self.state, MORNING)]

    def switch(self) -> tuple[Any, ...]:
        """Applies the routes that are wanted; returns their backends."""
        (apply,) = [wish for wish in self.wants() if isinstance(wish, ApplyRoutes)]
        self.signal(RoutesApplied(apply.routes))
        return apply.routes[0].backends if apply.routes else ()

    def replica(self, revision: int, ordinal: int = 0) -> str:
        services: Services = self.state
        return replica_name(E, D, revision, services.services[E].born[f"{D}/{revision}"], ordinal)


def status(replica: str, revision: int, phase: str) -> ReplicaStatus:
    return ReplicaStatus(HOME, E, D, revision, replica, phase, "it fell" if phase == "failed" else "", f"/run/{replica}.sock")


def serving() -> Play:
    """Revision 1 is in service with all traffic, its route applied."""
    play = Play()
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=1, spec=spec(), all_traffic=True))
    one = play.replica(1)
    play.see((one, 1, "ready"))
    play.tell(
        ReplicaReady(endpoint=E, deployment=D, revision=1, replica=one), DeploymentReady(endpoint=E, deployment=D, revision=1),
        TrafficSet(endpoint=E, traffic={D: 100}),
    )
    play.switch()
    assert play.wants() == []
    return play


def test_nothing_is_done_before_the_first_look() -> None:
    play = Play()
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=1, spec=spec()))
    assert play.wants() == []


def test_the_replicas_of_a_wanted_revision_are_started_and_reported_once_ready() -> None:
    play = Play()
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=1, spec=spec(instances=2)))
    one, two = play.replica(1, 0), play.replica(1, 1)
    play.see()
    starts = [wish for wish in play.wants() if isinstance(wish, StartReplica)]
    assert [start.replica for start in starts] == [one, two]
    assert starts[0].spec == spec(instances=2)
    play.see((one, 1, "starting"), (two, 1, "ready"))
    assert [wish for wish in play.wants() if not isinstance(wish, ApplyRoutes)] == [
        ReportReplicaReady(endpoint=E, deployment=D, revision=1, replica=two),
    ]
    play.tell(ReplicaReady(endpoint=E, deployment=D, revision=1, replica=two))
    assert [wish for wish in play.wants() if not isinstance(wish, ApplyRoutes)] == []


def test_a_route_has_both_keys_and_the_ready_replicas_of_the_revision_in_service() -> None:
    play = serving()
    one = play.replica(1)
    (route,) = play.state.applied
    assert route.key_references == ("p1", "s1")
    assert route.workspace_name == "team"
    assert route.backends == (WantedBackend(D, 100, (f"/run/{one}.sock",)),)
    play.tell(EndpointKeyRegenerated(endpoint=E, which="secondary", reference="s2"))
    (apply,) = play.wants()
    assert apply.routes[0].key_references == ("p1", "s2")


def test_a_rolling_update_switches_the_routes_before_it_stops_what_served_before() -> None:
    play = serving()
    old = play.replica(1)
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=2, spec=spec(2)))
    new = play.replica(2)
    assert [wish.replica for wish in play.wants()] == [new]
    play.see((old, 1, "ready"), (new, 2, "starting"))
    assert play.wants() == []
    play.see((old, 1, "ready"), (new, 2, "ready"))
    assert play.wants() == [ReportReplicaReady(endpoint=E, deployment=D, revision=2, replica=new)]
    play.tell(
        ReplicaReady(endpoint=E, deployment=D, revision=2, replica=new), DeploymentReady(endpoint=E, deployment=D, revision=2),
    )
    assert [type(wish) for wish in play.wants()] == [ApplyRoutes]
    assert play.switch() == (WantedBackend(D, 100, (f"/run/{new}.sock",)),)
    assert play.wants() == [StopReplica(old, 10)]
    play.see((old, 1, "stopped"), (new, 2, "ready"))
    assert play.wants() == []


def test_a_revision_whose_replica_fails_is_failed_and_stopped_while_the_other_serves_on() -> None:
    play = serving()
    old = play.replica(1)
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=2, spec=spec(2)))
    new = play.replica(2)
    play.see((old, 1, "ready"), (new, 2, "failed"))
    assert play.wants() == [FailDeployment(endpoint=E, deployment=D, revision=2, reason="it fell")]
    play.tell(DeploymentFailed(endpoint=E, deployment=D, revision=2, reason="it fell"))
    assert play.wants() == [StopReplica(new, 0.0)]


def test_a_replica_in_service_that_is_lost_is_reported_taken_out_of_the_routes_and_started_again() -> None:
    play = serving()
    one = play.replica(1)
    for phase, reason in (("failed", "it fell"), (None, "it is not there any more")):
        play.see(*([(one, 1, phase)] if phase else []))
        lost, start, apply = play.wants()
        assert lost == ReportReplicaLost(endpoint=E, deployment=D, revision=1, replica=one, reason=reason)
        assert start.replica == one
        assert apply.routes[0].backends == (WantedBackend(D, 100, ()),)
    play.tell(ReplicaLost(endpoint=E, deployment=D, revision=1, replica=one, reason=""))
    play.see((one, 1, "ready"))
    assert play.wants() == [ReportReplicaReady(endpoint=E, deployment=D, revision=1, replica=one)]


def test_deleting_takes_the_route_away_first_and_the_replicas_after() -> None:
    play = serving()
    play.tell(EndpointDeleted(endpoint=E))
    assert play.wants() == [ApplyRoutes(())]
    play.switch()
    assert [type(wish) for wish in play.wants()] == [StopReplica]


def test_a_deployment_made_anew_under_its_old_name_has_other_replicas() -> None:
    play = serving()
    old = play.replica(1)
    play.tell(DeploymentDeleted(endpoint=E, deployment=D))
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=1, spec=spec()))
    assert play.replica(1) != old
    play.switch()
    assert {type(wish) for wish in play.wants()} == {StartReplica, StopReplica}


def test_a_start_of_the_server_looks_and_tells_the_gateway_all_routes_again() -> None:
    play = serving()
    play.signal(Started(MORNING))
    assert play.wants() == []
    play.see((play.replica(1), 1, "ready"))
    assert [type(wish) for wish in play.wants()] == [ApplyRoutes]


def test_strays_are_stopped() -> None:
    play = serving()
    play.see((play.replica(1), 1, "ready"), ("r-stray", 7, "ready"))
    assert play.wants() == [StopReplica("r-stray", 10)]


def test_an_outside_call_has_one_key_however_often_it_is_wanted() -> None:
    play = Play()
    play.tell(DeploymentRequested(endpoint=E, deployment=D, revision=1, spec=spec()))
    play.see()
    first, second = (
        [wish.key for wish in ROLE.react(play.state, MORNING) if isinstance(wish, Call)] for _ in range(2)
    )
    assert first == second == [f"start {play.replica(1)}", "routes"]
