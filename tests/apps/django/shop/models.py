"""The tables that every tenant has. The column tenant has a default in the database and says whose a row is."""
from django.db import models


class Item(models.Model):
    tenant = models.TextField(editable=False)
    payload = models.TextField()
    n = models.IntegerField()

    class Meta:
        managed = False
        db_table = 'items'


class Entry(models.Model):
    id = models.TextField(primary_key=True)
    amount = models.IntegerField(default=1)

    class Meta:
        managed = False
        db_table = 'ledger'


class EntryOwner(models.Model):
    id = models.TextField(primary_key=True)
    tenant = models.TextField()

    class Meta:
        managed = False
        db_table = 'ledger'
