"""Where the shop's views are."""
from django.urls import path

from . import views

urlpatterns = [path('read', views.read), path('write/<str:key>', views.write)]
