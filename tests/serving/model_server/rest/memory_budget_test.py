from serving.model_server.rest.memory_budget import MemoryBudget


def test_account_takes_what_is_left_and_gives_all_back():
    budget = MemoryBudget(100)
    one, other = budget.account(), budget.account()
    assert one.take(60)
    assert not other.take(41)
    assert other.take(40)
    assert budget.taken == 100
    one.close()
    one.close()
    assert budget.taken == 40
    assert other.raise_to(100) and budget.taken == 100
    assert other.raise_to(50) and budget.taken == 100
    assert not other.raise_to(101)
    assert other.change_to(30) and budget.taken == 30
    assert not other.change_to(101) and budget.taken == 30


def test_small_ones_come_in_where_nothing_is_left():
    budget = MemoryBudget(100)
    assert budget.account().take(100)
    small = budget.account(free_bytes=10)
    assert small.take(6) and small.take(4)
    assert not small.take(1)
    assert budget.taken == 110
