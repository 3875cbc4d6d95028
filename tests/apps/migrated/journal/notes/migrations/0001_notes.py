"""The first migration."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the table."""

    dependencies = []
    operations = [migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True, serialize=False))])]
