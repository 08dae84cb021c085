"""Policies for MiniGrid: a noisy solver, a sub-goal explorer that uses keys and doors a lot, and three for tests.

Random play unlocks a door once in 7,000 steps; a solver ends its episode at the goal. The explorer strolls, fetches,
drops, opens and shuts, and sometimes carries an object for a long time before it uses it. Recordings then hold every
event often, also long after a pick-up. Explorer and solver take 5-50% random actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from reelworld.envs.simulator import Simulator
from reelworld.types import UserError

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
FACING = -1
"""Result of ``Agent.next_action`` when the agent faces the cell already."""

MIN_FRAMES = 40
"""Shortest episode of ``waypoints``: models of fixed windows need long enough ones."""

Cell = tuple[int, int]


def solver(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Fetch the key, open the door, go to the goal; noisy."""
    return _noisy(Agent(simulator, rng).solve(), simulator, rng)


def explorer(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Follow one random sub-goal after the other; noisy."""
    return _noisy(Agent(simulator, rng).explore(), simulator, rng)


def carrier(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Fetch an object, carry it for 25-45 steps, then use or drop it, without noise; then the episode ends."""
    agent = Agent(simulator, rng)
    yield from agent.fetch()
    yield from agent.carry_on()


def waypoints(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Visit two random cells, go back and forth between them for a while, then solve the task; without noise.

    Episodes have at least 40 frames: the walk goes on while the way to the goal could be too short for the rest.
    """
    agent = Agent(simulator, rng)
    cells = agent.draw_waypoints()
    n_steps, n_visits = 0, 0
    while n_visits < 2 or n_steps + agent.min_steps_left() < MIN_FRAMES - 1:
        n_before = n_steps
        for action in agent.go_to(cells[n_visits % 2]):
            yield action
            n_steps += 1
            if n_visits >= 2 and n_steps + agent.min_steps_left() >= MIN_FRAMES - 1:
                break
        if n_steps == n_before:  # no other cell, or no path
            yield LEFT
            n_steps += 1
        n_visits += 1
    yield from agent.solve()


def glancer(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Walk about; every few steps turn to one side, wait, and turn back.

    In the agent's own view (the observation, not the map) the other side is then out of sight for 1 to 20 frames: a
    model must remember it.
    """
    Agent(simulator, rng)  # refuses other environments
    while True:
        for _ in range(rng.integers(1, 7)):
            yield int(rng.choice([LEFT, RIGHT, FORWARD, FORWARD]))
        away, back = (LEFT, RIGHT) if rng.random() < 0.5 else (RIGHT, LEFT)
        yield away
        for _ in range(rng.integers(0, 20)):
            yield DONE  # does nothing
        yield back


def _noisy(plan: Iterator[int], simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Mix random actions into a plan; a plan reads the state again for each action."""
    noise = rng.uniform(0.05, 0.5)
    while True:
        yield int(rng.integers(simulator.action_spec.n)) if rng.random() < noise else next(plan)


class Agent:
    """The agent of a MiniGrid environment: path planning, and sub-goals as generators of actions."""

    def __init__(self, simulator: Simulator, rng: np.random.Generator) -> None:
        env: Any = simulator.env.unwrapped
        if not hasattr(env, "grid") or simulator.action_spec.n < TOGGLE + 1:
            raise UserError(
                f"this policy needs a MiniGrid world; {simulator.config.env_id} came, use 'random' or your own."
            )
        self.env, self.rng = env, rng

    # ------------------------------------------------------------------ sub-goals

    def solve(self) -> Iterator[int]:
        """Solve the task: key, door, goal."""
        while True:
            yield self._solver_action()

    def _solver_action(self) -> int:
        grid, carrying = self.env.grid, self.env.carrying
        if (action := self._reach(self._cells("goal"), FORWARD)) is not None:
            return action
        doors = [c for c in self._cells("door") if not grid.get(*c).is_open]
        held = carrying.color if carrying and carrying.type == "key" else None
        usable = [c for c in doors if not grid.get(*c).is_locked or grid.get(*c).color == held]
        if (action := self._reach(usable, TOGGLE)) is not None:
            return action
        colors = {grid.get(*c).color for c in doors if grid.get(*c).is_locked}
        keys = [c for c in self._cells("key") if grid.get(*c).color in colors]
        if carrying is None and (action := self._reach(keys, PICK_UP)) is not None:
            return action
        return int(self.rng.choice([LEFT, RIGHT, FORWARD, FORWARD]))

    def explore(self) -> Iterator[int]:
        """Follow one random sub-goal after the other."""
        while True:
            has_door = bool(self._cells("door"))
            goals: dict[Callable[[], Iterator[int]], float]
            if self.env.carrying is not None:
                goals = {self._put_down: 0.22, self.carry_on: 0.22, self._use_door: 0.34 * has_door}
                goals |= {self._stroll: 0.17, self._finish: 0.05}
            else:
                goals = {self.fetch: 0.5, self._use_door: 0.25 * has_door, self._stroll: 0.2, self._finish: 0.05}
            weights = [w / sum(goals.values()) for w in goals.values()]
            goal = list(goals)[int(self.rng.choice(len(goals), p=weights))]
            yield from self._or_random(goal(), (LEFT, RIGHT, FORWARD))

    def _or_random(self, actions: Iterator[int], choices: Sequence[int]) -> Iterator[int]:
        """Yield the actions of a sub-goal, or one random choice where it cannot be reached from here."""
        is_empty = True
        for action in actions:
            is_empty = False
            yield action
        if is_empty:
            yield int(self.rng.choice(choices))

    def fetch(self) -> Iterator[int]:
        """Pick up a random object."""
        objects = [c for c in self._inner_cells() if (thing := self.env.grid.get(*c)) and thing.can_pickup()]
        if objects:
            yield from self._face_and(self._pick(objects), PICK_UP)

    def carry_on(self) -> Iterator[int]:
        """Stroll with an object for 25-45 steps, then use or drop it."""
        left = int(self.rng.integers(25, 46))
        while left > 0 and self.env.carrying is not None:
            for action in self._or_random(self._stroll(), (LEFT, RIGHT)):
                left -= 1
                yield action
        if self.env.carrying is not None:
            yield from self._use_door() if self.rng.random() < 0.65 else self._put_down()

    def go_to(self, target: Cell) -> Iterator[int]:
        """Walk onto a free cell, if there is a path."""
        return self._face_and(target, FORWARD)

    def _stroll(self) -> Iterator[int]:
        """Go to a random free cell."""
        if free := self._free_cells():
            yield from self.go_to(self._pick(free))

    def _put_down(self) -> Iterator[int]:
        """Drop the carried object on a random free cell, near or far."""
        free, (x, y) = self._free_cells(), self.env.agent_pos
        near = [c for c in free if abs(c[0] - x) + abs(c[1] - y) <= 2]
        cells = near if near and self.rng.random() < 0.6 else free
        if cells:
            yield from self._face_and(self._pick(cells), DROP)

    def _use_door(self) -> Iterator[int]:
        """Toggle a random door one to four times, perhaps turning away in between."""
        if doors := self._cells("door"):
            target = self._pick(doors)
            for _ in range(int(self.rng.integers(1, 5))):
                if not (yield from self._face_and(target, TOGGLE)):
                    return
                if self.rng.random() < 0.3:
                    yield int(self.rng.choice([LEFT, RIGHT]))

    def _finish(self) -> Iterator[int]:
        """Solve the task for up to 40 steps."""
        for _ in range(40):
            yield self._solver_action()

    # ------------------------------------------------------------------ paths

    def _face_and(self, target: Cell, act: int) -> Generator[int, None, bool]:
        """Walk until the agent faces a cell, then take an action; return False where there is no path."""
        while (action := self.next_action(target)) != FACING:
            if action is None:
                return False
            yield action
        yield act
        return True

    def _reach(self, targets: list[Cell], act: int) -> int | None:
        """Return the next action towards the first reachable target, ``act`` once the agent faces it, or None."""
        for target in targets:
            if (action := self.next_action(target)) is not None:
                return act if action == FACING else action
        return None

    def next_action(self, target: Cell) -> int | None:
        """Return the next action of a shortest path to face a cell; FACING at its end, None without a path."""
        grid, direction, (x, y) = self.env.grid, int(self.env.agent_dir), self.position
        if neighbours((x, y))[direction] == target:
            return FACING
        width, cells = grid.width, grid.grid
        distance = {target: 0}
        queue = deque([target])
        while queue and (x, y) not in distance:
            cell = queue.popleft()
            for step in neighbours(cell):
                if step not in distance and (step == (x, y) or _is_open(cells[step[1] * width + step[0]])):
                    distance[step] = distance[cell] + 1
                    queue.append(step)
        if (x, y) not in distance or target == (x, y):
            return None
        best = [d for d, cell in enumerate(neighbours((x, y))) if distance.get(cell) == distance[x, y] - 1]
        turns = min(((d - direction) % 4 for d in best), key=lambda turn: (0, 1, 2, 1)[turn])
        return (FORWARD, RIGHT, (LEFT, RIGHT)[(x + y) % 2], LEFT)[turns]

    def min_steps_left(self) -> int:
        """Return a lower bound of the steps to a goal; 0 without a goal."""
        x, y = self.position
        return min((abs(a - x) + abs(b - y) for a, b in self._cells("goal")), default=0)

    # ------------------------------------------------------------------ cells

    @property
    def position(self) -> Cell:
        """Column and row of the agent."""
        x, y = map(int, self.env.agent_pos)
        return x, y

    def draw_waypoints(self) -> list[Cell]:
        """Draw two free cells that the agent can reach, other than its own; its own where there are fewer."""
        grid, start = self.env.grid, self.position
        reached, queue = {start}, deque([start])
        while queue:
            for cell in neighbours(queue.popleft()):
                if cell not in reached and _is_open(grid.get(*cell)):
                    reached.add(cell)
                    queue.append(cell)
        free = sorted(c for c in reached - {start} if grid.get(*c) is None)
        drawn = [free[int(i)] for i in self.rng.permutation(len(free))]
        return [*drawn, start, start][:2]

    def _pick(self, cells: list[Cell]) -> Cell:
        return cells[int(self.rng.integers(len(cells)))]

    def _free_cells(self) -> list[Cell]:
        """Return the empty cells inside the outer wall, without the agent's."""
        return [c for c in self._inner_cells() if self.env.grid.get(*c) is None and c != self.position]

    def _inner_cells(self) -> list[Cell]:
        """Return the cells inside the outer wall."""
        grid = self.env.grid
        return [(x, y) for y in range(1, grid.height - 1) for x in range(1, grid.width - 1)]

    def _cells(self, kind: str) -> list[Cell]:
        """Return the cells with a kind of object."""
        grid = self.env.grid
        return [(i % grid.width, i // grid.width) for i, x in enumerate(grid.grid) if x and x.type == kind]


def neighbours(cell: Cell) -> tuple[Cell, Cell, Cell, Cell]:
    """Return the cells right, below, left and above: the order of the agent's directions."""
    x, y = cell
    return (x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)


def _is_open(thing: Any) -> bool:
    """Return True for cells to walk through; goals and lava would end the episode."""
    return thing is None or (thing.type in ("door", "floor") and thing.can_overlap())
