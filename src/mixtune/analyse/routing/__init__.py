"""What routers choose for each task, always beside routers that never learnt."""

from mixtune.analyse.routing.run import analyse_routing, compare_routers
from mixtune.analyse.routing.settings import RoutingSettings

__all__ = ["RoutingSettings", "analyse_routing", "compare_routers"]
