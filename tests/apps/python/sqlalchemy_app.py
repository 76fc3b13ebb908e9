"""An application on SQLAlchemy: one engine with its pool. The tenant is named when a connection is checked out, as its documentation shows;
or at the begin of a session; and qualified names by schema_translate_map.
"""
import contextlib
import contextvars

import sqlalchemy as sa
from sqlalchemy import event, orm

import program
from program import HERE, SETTING, path, refused

Error = sa.exc.DBAPIError
engine = sa.create_engine(sa.engine.URL.create('postgresql+psycopg2', username=program.LOGIN['user'], password=program.LOGIN['password'],
                                               host=program.LOGIN['host'], port=program.LOGIN['port'], database=program.LOGIN['database']),
                          pool_size=3, max_overflow=2, pool_timeout=25, pool_pre_ping=True)
tenant_of_request = contextvars.ContextVar('tenant', default=None)
Base = orm.declarative_base()


class Item(Base):
    __tablename__ = 'items'
    id = sa.Column(sa.BigInteger, primary_key=True)
    tenant = sa.Column(sa.Text, server_default=sa.FetchedValue())
    payload = sa.Column(sa.Text)
    n = sa.Column(sa.Integer)


class Entry(Base):
    __tablename__ = 'ledger'
    id = sa.Column(sa.Text, primary_key=True)
    tenant = sa.Column(sa.Text, server_default=sa.FetchedValue())
    amount = sa.Column(sa.Integer, server_default=sa.text('1'))
    __mapper_args__ = {'eager_defaults': True}


@event.listens_for(engine, 'checkout')
def name_tenant(connection, _record, _proxy):
    tenant = tenant_of_request.get()
    if tenant:
        # Outside of a transaction, so that no ROLLBACK undoes it.
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET %s = '%s'" % (SETTING, tenant) if SETTING else 'SET search_path TO %s' % path(tenant))
        connection.autocommit = False


@event.listens_for(engine, 'checkin')
def forget_tenant(connection, _record):
    if tenant_of_request.get() and connection is not None:
        with connection.cursor() as cursor:
            cursor.execute('RESET %s' % (SETTING or 'search_path'))
        connection.commit()


@contextlib.contextmanager
def request_of(tenant):
    token = tenant_of_request.set(tenant)
    try:
        yield
    finally:
        tenant_of_request.reset(token)


def read_own(turn, session):
    turn.here(session.execute(sa.text(HERE)).one())
    turn.own([(item.tenant,) for item in session.query(Item).order_by(Item.id).limit(10)], 10)
    turn.own(session.execute(sa.select(Item.tenant).where(sa.or_(Item.n < 5, Item.n >= 5)).limit(10)), 10)


def add(turn, session, what=''):
    entry = Entry(id=turn.key(what))
    session.add(entry)
    session.flush()
    turn.own([(entry.tenant,)])
    return entry.id


def increment(turn, session):
    smallest = sa.select(sa.func.min(Item.id)).scalar_subquery()
    session.execute(sa.update(Item).where(Item.id == smallest + turn.worker).values(n=Item.n + 1).execution_options(synchronize_session=False))


def transactions(turn, make_session, name=lambda session: None):
    with make_session() as session:
        name(session)
        read_own(turn, session)
        key = add(turn, session)
        increment(turn, session)
        session.commit()
        turn.committed(key)
        turn.added()
    with make_session() as session:
        name(session)
        gone = add(turn, session, '-gone')
        session.rollback()
        turn.rolled_back(gone)
    with make_session() as session, session.begin():
        name(session)
        kept, undone = add(turn, session, '-kept'), turn.key('-undone')
        with refused('23505', Error):
            with session.begin_nested():
                session.execute(sa.insert(Entry).values(id=undone))
                session.execute(sa.insert(Entry).values(id=kept))
        read_own(turn, session)
    turn.committed(kept)
    turn.rolled_back(undone)


def both_checkout(turn):
    """named when checked out"""
    with request_of(turn.tenant):
        transactions(turn, lambda: orm.Session(engine))
        with engine.connect() as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=3).execute(sa.select(Item.tenant).limit(10))
            turn.own(streamed, 10)
        with engine.connect().execution_options(isolation_level='AUTOCOMMIT') as connection:
            turn.here(connection.execute(sa.text(HERE)).one())
            keys = [turn.key('-many') for _ in range(15)]
            connection.execute(sa.insert(Entry), [{'id': key} for key in keys])
            turn.committed(*keys)
    with engine.connect() as connection:
        program.nobody(lambda: connection.execute(sa.text(HERE)).all(), Error)


def path_begin(turn):
    """named in the transaction"""
    transactions(turn, lambda: orm.Session(engine), lambda session: session.execute(sa.text('SET LOCAL search_path TO ' + path(turn.tenant))))
    repeatable = engine.execution_options(isolation_level='REPEATABLE READ')
    transactions(turn, lambda: orm.Session(repeatable), lambda session: session.execute(
        sa.select(sa.func.set_config('search_path', turn.tenant + ',public', True))))
    with engine.connect() as connection:
        program.nobody(lambda: connection.execute(sa.text(HERE)).all(), Error)


def path_translate(turn):
    """schema_translate_map"""
    translated = engine.execution_options(schema_translate_map={None: turn.tenant})
    with request_of(turn.tenant):
        transactions(turn, lambda: orm.Session(translated))
        with translated.connect() as connection:
            columns = [column['name'] for column in sa.inspect(connection).get_columns('ledger', schema=turn.tenant)]
            assert columns == ['id', 'tenant', 'amount'], columns


def setting_local(turn):
    """the tenant setting in the transaction"""
    transactions(turn, lambda: orm.Session(engine), lambda session: session.execute(sa.select(sa.func.set_config(SETTING, turn.tenant, True))))
    with engine.connect() as connection:
        program.nobody(lambda: connection.execute(sa.text(HERE)).all(), Error)


ways = program.call('both_', dict(globals()))
ways.update(program.call('setting_' if SETTING else 'path_', dict(globals())))
program.run('sqlalchemy', ways)
