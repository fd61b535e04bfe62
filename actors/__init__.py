"""Actors: each hears the log, folds what it needs, and sends commands; an answer is an event. Nobody waits for a reply.

    role        hears                                            sends                                     calls
    desk        runs: submitted to ended; nodes: release, gone   nothing: answers agents' held requests
    scheduler   runs, nodes and slots; computes deleted          PlaceRun, CancelRun                       -
    autoscaler  runs, nodes and slots; computes                  ScaleCluster                              -
    node        computes, nodes and slots                        RequestNode, ReleaseNode, LoseNode        Nodes.start, stop, list
    watchdog    runs placed to ended; nodes; signs of life       MarkRun-, MarkNode- Unreachable and       -
                                                                 Reachable, GiveUpRun
    deployer    endpoints, workspace-created                     ReportReplicaReady, ReportReplicaLost,    Serving.start, stop, list;
                                                                 FailDeployment                            Gateway.apply

Map:
    role        what a role is: folds, wishes (Send, Call), hands
    actor       the one loop;  outbox  sends its wishes;  hands  make its outside calls
    supervisor  shards gained and lost, catching up, restarts, snapshots, stopping in order
    snapshots   the port for states kept between two starts;  floor  the desk's fold
"""
