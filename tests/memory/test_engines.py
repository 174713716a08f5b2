"""Engines as typed configs, and what reads them."""

import numpy as np
import pytest
from banks import filled
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from nearest import queries

from u1_plugin.memory import (
    ExactEngine,
    ExactSearch,
    FaissEngine,
    FaissSearch,
    Memory,
    build_search,
    check_engine,
    parse_engine,
)
from u1_plugin.memory.engines import engine_options

IVF = 'IVF4,Flat'
FORMS = [
    ('exact', ExactEngine()),
    (dict(type='exact'), ExactEngine()),
    (dict(type='exact', dtype='float16'), ExactEngine('float16')),
    ('faiss:HNSW32', FaissEngine('HNSW32')),
    ('faiss:PCA4,IVF4,SQ8', FaissEngine('PCA4,IVF4,SQ8')),
    (dict(type='faiss', factory=IVF, nprobe=2), FaissEngine(IVF, 2)),
    (dict(type='faiss', factory=IVF, nprobe=None), FaissEngine(IVF)),
    (dict(type='faiss', factory=IVF, recall=1), FaissEngine(IVF, None, 1.0)),
    # As MMEngine's command line gives what has a comma.
    (['faiss:IVF4', 'Flat'], FaissEngine(IVF)),
    (dict(type='faiss', factory=['IVF4', 'Flat']), FaissEngine(IVF)),
    (ConfigDict(type='faiss', factory=IVF), FaissEngine(IVF)),
]


@pytest.mark.parametrize('given_, parsed', FORMS, ids=str)
def test_forms_of_an_engine(given_, parsed):
    found = parse_engine(given_)
    assert found == parsed and type(found) is type(parsed)
    assert parse_engine(found) == parsed
    assert parse_engine(engine_options(given_)) == parsed
    assert engine_options(parsed)['type'] in ('exact', 'faiss')


def test_numbers_of_numpy_become_pythons():
    found = parse_engine(dict(type='faiss', factory=IVF, nprobe=np.int64(3)))
    assert type(found.nprobe) is int
    with pytest.raises(ValueError, match='nprobe=np.int64'):
        parse_engine(dict(type='faiss', factory=IVF, nprobe=np.int64(0)))


@given(st.text(min_size=1), st.none() | st.integers(1, 2**31 - 1))
def test_a_config_of_a_parsed_engine_is_the_same_again(factory, nprobe):
    config = dict(type='faiss', factory=factory, nprobe=nprobe)
    parsed = parse_engine(config)
    assert engine_options(parsed) == dict(config, recall=None)
    if nprobe is None:
        assert parse_engine(f'faiss:{factory}') == parsed


WRONG = [
    ('flat', "engine='flat' must be 'exact', 'faiss:FACTORY'"),
    ('faiss:', "engine='faiss:' must be"),
    ('', "engine='' must be"),
    ([], 'engine=[] must be'),
    (['exact', 3], "engine=['exact', 3] must be"),
    (None, 'engine=None must be'),
    (np.array(['exact']), 'must be'),
    ({}, 'engine={} has no type; engine.type must be'),
    (dict(nprobe=16), "engine={'nprobe': 16} has no type"),
    (dict(type='flat'), "engine.type='flat' must be 'exact' or 'faiss'"),
    (dict(type=ExactSearch), 'engine.type='),
    (dict(type=['exact']), "engine.type=['exact']"),
    (dict(type='exact', nprobe=2), 'engine.nprobe=2 is no option of engine.t'),
    (dict(type='exact', nprobe=2), "set engine.type='faiss'"),
    (dict(type='exact', dtype='int8'), "engine.dtype='int8' must be"),
    (dict(type='faiss', factory=IVF, dtype='float16'), "engine.dtype='float16"),
    (dict(type='faiss', factory=IVF, nprob=2), 'engine.nprob=2'),
    (dict(type='faiss', factory=IVF, nprob=2), 'do you mean nprobe?'),
    (dict(type='faiss', factory=IVF, xyz=2), "it has ['factory', 'nprobe'"),
    ({'type': 'faiss', 3: 4}, 'engine.3=4'),
    (dict(type='faiss'), 'engine.factory=None must be a string'),
    (dict(type='faiss', factory=''), "engine.factory='' must be a string"),
    (dict(type='faiss', factory=4), 'engine.factory=4 must be a string'),
    (dict(type='faiss', factory=IVF, nprobe=0), 'engine.nprobe=0 must be an'),
    (dict(type='faiss', factory=IVF, nprobe=1.5), 'engine.nprobe=1.5'),
    (dict(type='faiss', factory=IVF, nprobe=True), 'engine.nprobe=True'),
    (dict(type='faiss', factory=IVF, nprobe='16'), "engine.nprobe='16'"),
    (dict(type='faiss', factory=IVF, recall=0.0), 'engine.recall=0.0 must be'),
    (dict(type='faiss', factory=IVF, recall=1.01), 'engine.recall=1.01'),
    (dict(type='faiss', factory=IVF, recall=float('nan')), 'engine.recall=nan'),
    (
        dict(type='faiss', factory=IVF, recall=0.9, nprobe=3),
        'engine.recall=0.9 chooses nprobe, but engine.nprobe=3',
    ),
]


@pytest.mark.parametrize('engine, words', WRONG)
def test_wrong_configs_are_named(engine, words):
    for call in (
        lambda: parse_engine(engine),
        lambda: check_engine(engine, 'cosine', 6),
        lambda: build_search(filled(), engine),
        lambda: Memory(filled(), engine),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value)
    with pytest.raises(ValueError) as caught:
        check_engine(engine, 'cosine', 6, 'model.head.engine')
    assert words.split(' ')[0].replace('engine', 'model.head.engine') in str(
        caught.value
    )


@pytest.mark.parametrize('factory', ['Flat', 'HNSW8', 'SQ8', 'PCA4,Flat'])
@pytest.mark.parametrize('option', [dict(nprobe=2), dict(recall=0.5)])
def test_without_cells_nothing_about_them_is_read(factory, option):
    """Refused where the config is, before a bank is filled."""
    pytest.importorskip('faiss')
    ((name, value),) = option.items()
    words = f"engine.{name}={value} is not read by factory='{factory}', which"
    engine = dict(type='faiss', factory=factory, **option)
    with pytest.raises(ValueError, match='head.engine') as caught:
        check_engine(engine, 'l2', 6, 'head.engine')
    assert words in str(caught.value)
    with pytest.raises(ValueError, match=f'{name}={value} is not read'):
        FaissSearch(filled(), factory, **option)


@pytest.mark.parametrize('wrong', ['faiss:PQ999', 'faiss:Nonsense'])
def test_a_factory_is_named_as_it_was_written(wrong):
    pytest.importorskip('faiss')
    factory = wrong.partition(':')[2]
    for engine, words in (
        (wrong, f"head.engine='{wrong}': factory='{factory}' is no index"),
        (
            dict(type='faiss', factory=factory),
            f"head.engine.factory='{factory}' is no index",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            check_engine(engine, 'cosine', 6, 'head.engine')
        assert words in str(caught.value)


def test_engines_are_built_of_their_configs():
    found = build_search(filled(), dict(type='exact', dtype='bfloat16'), 'l2')
    assert isinstance(found, ExactSearch) and found.metric == 'l2'
    assert found.dtype == 'bfloat16' and str(found) == 'exact, bfloat16 scores'
    assert str(build_search(filled(), 'exact')) == 'exact'
    pytest.importorskip('faiss')
    config = dict(type='faiss', factory=IVF, nprobe=3)
    found = build_search(filled(), config, 'l2', k=7)
    assert isinstance(found, FaissSearch) and found.metric == 'l2'
    assert (found.measured.nprobe, found.measured.k) == (3, 7)
    assert str(found).startswith(f'faiss {IVF}, nprobe 3 of 4 cells, recall@7')
    assert str(build_search(filled(), 'faiss:Flat')) == 'faiss Flat'
    found.search(queries(), 3)
